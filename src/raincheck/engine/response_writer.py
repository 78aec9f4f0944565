"""A handler's response on its way into the store, the same for every gateway.

Bytes are gathered into chunks of one size. `feed` only gathers; what may block on the store is
`flush`, `complete` and `fail`, so that a gateway with an event loop can call those in a thread.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable
from dataclasses import replace

from raincheck.config.options import Settings
from raincheck.engine.engine import Engine
from raincheck.engine.outbox import Ending, if_unexpected
from raincheck.errors import abbreviate
from raincheck.http.json_errors import LARGEST_ERROR, NOTHING_SAID, error_of
from raincheck.http.messages import WITHOUT_CONTENT, Headers, Request, field_value, without
from raincheck.http.references import Base, base_of, resolve_all
from raincheck.operations.operation import Operation, Reason, Result
from raincheck.operations.transitions import Ended, Responded

logger = logging.getLogger("raincheck")

_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_FIELD_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")  # RFC 9110 §5.5


class ResponseWriter:
    """Records one response of one operation, and ends the operation exactly once.

    Args:
        request: What is answered.
    """

    # As long as an operation runs, there is one.
    __slots__ = (
        *("_base", "_buffer", "_chunk_size", "_engine", "_headers", "_is_complete", "_length"),
        *("_lock", "_status", "_writing", "_written", "first_headers", "is_over", "operation"),
    )

    def __init__(
        self, engine: Engine, operation: Operation, request: Request | None = None
    ) -> None:
        self.operation = operation
        self.is_over = False
        self._is_complete = False
        self._engine = engine
        self._base = _base_of(request, engine.settings) if request is not None else None
        self._chunk_size = engine.chunk_size
        self._status: int | None = None
        self.first_headers: Headers = ()
        self._headers: Headers = ()
        self._buffer = bytearray()
        self._length = 0
        self._written = 0  # chunks
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # a task that is cancelled may leave its thread behind

    @property
    def has_started(self) -> bool:
        """Whether status and header fields are known."""
        return self._status is not None

    @property
    def is_given_up(self) -> bool:
        """Whether the operation has ended without the response."""
        return self.is_over and not self._is_complete

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take status and header fields as the handler gave them.

        Raises:
            ValueError: No server could send them.
        """
        if not 200 <= int(status) <= 999:
            raise ValueError(f"{status} is no status of a final response")
        self._status = int(status)
        self._headers = self.first_headers = _sendable(headers)
        if not self._engine.settings.keep_cookies:
            # They were for the first response: later they would overwrite a newer session, and
            # a credential that nobody will get need not be kept.
            self._headers = without(self._headers, frozenset({b"set-cookie"}))
        if self._base is not None:
            self._headers = resolve_all(self._headers, self._base)

    def feed(self, data: bytes) -> bool:
        """Gather bytes of the body; True if there is enough to `flush`."""
        self._buffer += data
        self._length += len(data)
        return len(self._buffer) >= self._chunk_size

    def flush(self) -> None:
        """Write the whole chunks that were gathered; may end the operation."""
        with self._writing:
            self._flush()

    def _flush(self) -> None:
        if self.is_over:
            self._buffer.clear()
            return
        if self._length > self._engine.limits.response_body:
            self.fail(Reason.RESPONSE_TOO_LARGE)
            return
        try:
            while len(self._buffer) >= self._chunk_size:
                chunk = bytes(memoryview(self._buffer)[: self._chunk_size])
                self._engine.write(self.operation, self._written, chunk)
                del self._buffer[: self._chunk_size]
                self._written += 1
        except Exception as error:
            shown = abbreviate(self.operation.id)
            logger.error(
                "the response of %s is lost: %s", shown, error, exc_info=if_unexpected(error)
            )
            self.fail(Reason.RESPONSE_LOST)

    def complete(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """End the operation with the response that was recorded."""
        with self._writing:
            self._complete(trailers)

    def _complete(self, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        self._flush()
        if self.is_over:
            return
        if self._status is None or not self._has_declared_length():
            self.fail(Reason.EXCEPTION)
            return
        if self._status in WITHOUT_CONTENT:  # RFC 9110 §15.3.5, §15.4.5: servers drop it, too
            self._buffer.clear()
            self._length = 0
        last = (self._written, bytes(self._buffer)) if self._buffer else None
        result = Result(
            status=self._status,
            headers=self._headers,
            length=self._length,
            chunk_size=self._chunk_size,
            fence=self.operation.fence,
            trailers=_sendable(trailers),
        )
        self._end(Ending(Responded(self._with_error(result)), last))

    def _with_error(self, result: Result) -> Result:
        """Add what an error says of itself, while it is in memory: no poll is to read a body."""
        is_small = result.status >= 400 and result.length == len(self._buffer) <= LARGEST_ERROR
        said = error_of(result.headers, bytes(self._buffer)) if is_small else NOTHING_SAID
        return replace(result, error_code=said.code, error_message=said.message)

    def conclude(
        self, error: BaseException | None, *, is_cancelled: bool, is_exit: bool = True
    ) -> None:
        """End the operation of a handler that is over, unless its response has ended it.

        Args:
            is_exit: Whether an error that is no `Exception` comes from the end of the process, or
                of its loop.
        """
        is_exit = is_exit and not isinstance(error, Exception)
        if error is not None and not is_exit and not is_cancelled:
            shown = abbreviate(self.operation.id)
            logger.error("the handler of operation %s raised", shown, exc_info=error)
        # Stopped, and not by a client: the process ends, or the loop is being closed.
        at_exit = error is not None and is_exit and not is_cancelled
        self.fail(Reason.SHUTDOWN if at_exit else Reason.EXCEPTION)

    def fail(self, reason: Reason) -> None:
        """End the operation without a response, unless it has ended already."""
        self._end(Ending(Ended(reason)))

    def _end(self, ending: Ending) -> None:
        with self._lock:  # shutdown may come while another thread completes
            if self.is_over:
                return
            self._is_complete = isinstance(ending.event, Responded)
            self.is_over = True
        self._buffer = bytearray()  # not cleared: another thread may be reading it
        self._engine.finish(self.operation, ending)

    def _has_declared_length(self) -> bool:
        """Tell whether as many bytes came as `Content-Length` says: else it is a cut response."""
        declared = field_value(self._headers, b"content-length")
        if declared is None or self._status in WITHOUT_CONTENT or declared == b"%d" % self._length:
            return True
        logger.error(
            "operation %s declared %r bytes and sent %d: its response is not kept",
            abbreviate(self.operation.id),
            declared,
            self._length,
        )
        return False


def _base_of(request: Request, settings: Settings) -> Base:
    prefix = settings.prefix if settings.status_url is None else None
    return base_of(request, settings.location, settings.public_url, prefix)


def _sendable(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return header fields as servers send them.

    A field with a line break in it is refused by servers; kept, it would fail each poll or, worse,
    become two.

    Raises:
        ValueError: A name or value can't be sent.
    """
    checked = tuple((bytes(name), bytes(value).strip(b" \t")) for name, value in fields)
    for name, value in checked:
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError(f"a response can't have a header field named {name!r}")
        if not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"the header field {name!r} of a response has control characters")
    return checked
