"""One call of a WSGI application that may be deferred: PEP 3333 on both of its sides.

Call, iteration and `close()` happen in one thread, the handler's: frameworks keep what belongs to a
request in its thread or context, and a half-read iterator can't change either.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

from raincheck.config.policy import Candidate
from raincheck.engine.response_writer import ResponseWriter
from raincheck.errors import OperationCancelled
from raincheck.handler import REQUEST
from raincheck.runners.leaving import is_exit
from raincheck.wsgi.arrival import EnvironArrival
from raincheck.wsgi.channel import Channel, Outlet
from raincheck.wsgi.closing import close, is_of_memory, is_plain, wants_close
from raincheck.wsgi.race import Race
from raincheck.wsgi.request_body import let_go
from raincheck.wsgi.translation import from_wsgi_headers, to_length

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from raincheck.wsgi.gateway import Gateway

    OptExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

logger = logging.getLogger("raincheck")

MOST_HELD = 64  # empty pieces before the first byte; more say no more


class Exchange(Race):
    """Calls the application for one request, and defers it if need be.

    Args:
        path: The request's, without the root path.
        body: The request's, read ahead.
    """

    _status: str | None = None
    _headers: list[tuple[str, str]]  # with a status
    _exc_info: OptExcInfo | None = None
    _sent = 0  # bytes
    _held = 0  # empty pieces
    _has_returned = False
    _is_whole = False  # all of it is in memory
    _is_idle = False  # its `close()` does nothing

    def __init__(
        self,
        gateway: Gateway,
        environ: WSGIEnvironment,
        path: str,
        body: IO[bytes],
        candidate: Candidate,
    ) -> None:
        inside = _copy(environ, body)
        self._arrival = EnvironArrival(environ, inside, body)
        super().__init__(gateway, candidate, environ["REQUEST_METHOD"], path, self._arrival)
        inside[REQUEST] = self.sign
        self._environ = inside
        self._body = body
        self._channel = Channel(self.news)

    # --- the server's thread -------------------------------------------------------------------

    def response(self, start_response: StartResponse) -> Iterable[bytes]:
        """Return to the server what the application has begun to answer, or raise as it has."""
        try:
            self._channel.wait()
            if self._status is not None:  # without one, the server knows what to say
                if self._exc_info is None:
                    start_response(self._status, self._headers)
                else:
                    start_response(self._status, self._headers, self._exc_info)
                    self._exc_info = None
            if not self._has_returned and not self._sent:
                self._channel.raise_error()
        except BaseException:  # nobody will iterate or close what is not returned
            self.abandon()
            raise
        return Outlet(self._channel) if self._channel.whole is None else self._channel.whole

    def has_begun(self) -> bool:
        """Tell whether there is something of a response that goes to the server."""
        return self._channel.has_begun()

    def abandon(self) -> None:
        """Take note that the server's thread is gone: nobody takes the response."""
        self._exc_info = None  # its traceback refers to this object
        self._channel.abandon()

    def break_off(self, error: BaseException) -> None:
        """Have the server's thread wait for nothing any more: the handler's is gone."""
        self._channel.break_off(error)

    def drop(self) -> None:
        """Let go of the request's body: its handler is not called.

        Servers have environs in cycles, and one that is idle collects none.
        """
        let_go(self._body, is_over=True)

    def detached(self) -> None:
        """Let go of what belongs to the server, unless its owner is asked for again."""
        self._arrival.leave_server(keeps=self.deferral.is_nobodys)

    # --- the handler's thread ------------------------------------------------------------------

    def work(self) -> None:
        """Call the application and send its response on: to the server, or into the store."""
        result: Iterable[bytes] = ()
        error: BaseException | None = None
        try:
            result = self.gateway.app(self._environ, self._start_response)
            self._has_returned = True
            if not self.is_left:
                self._send_all(result)
        except BaseException as raised:
            error = raised
        writer = self.settle()
        if self.is_left:
            self._leave(close(result) or error)
        elif writer is None:
            self._leave_to_server(result, error)
        else:
            self._exc_info = None
            error = close(result) or error
            let_go(self._body, is_over=True)  # not before: until now it may have been captured
            self.conclude(writer, error)
            self.cut(self._channel, error)
        del error  # its traceback refers to this frame

    def _leave(self, error: BaseException | None) -> None:
        """Let go of a request that workers are to handle."""
        self._exc_info = None
        if error is not None and not is_exit(error):
            logger.error("%r raised after it was left to workers", self.path, exc_info=error)
        self.until_recorded()
        let_go(self._body, is_over=True)
        self._channel.end()

    @property
    def scope(self) -> WSGIEnvironment:
        """The environ that the application was given."""
        return self._environ

    def _leave_to_server(self, result: Iterable[bytes], error: BaseException | None) -> None:
        """Have the server take the rest, and close the iterable when it wants that."""
        is_awaited = not self._is_idle and wants_close(result)
        # The server's thread is told by `run`, as late as can be: as long as this one has
        # something to do, another that is awake is only in its way.
        self._channel.end(error, tells=is_awaited)
        if is_awaited:
            self._channel.until_closed()
        error = self._channel.closed(close(result))
        if error is not None or not isinstance(self._body, io.BytesIO):
            self.news.tell_all()  # what follows takes its time
        let_go(self._body, is_over=is_awaited)
        if error is not None and not isinstance(error, OperationCancelled):
            logger.error("%r raised after its response", self.path, exc_info=error)
        del error

    def _send_all(self, result: Iterable[bytes]) -> None:
        is_first = not (self._sent or self._held)
        if is_first and is_plain(result) and self._is_to_server():
            self._channel.put_whole(result)
            return
        if is_first and is_of_memory(result) and self._is_to_server():
            self._channel.put_whole(iter([*result]))
            self._is_idle = True
            return
        self._is_whole = not self._sent and is_plain(result)
        for data in result:
            if not self._send(data):
                return
        writer = self._begin()
        if writer is not None:
            self.complete(writer)
            self._channel.end()
        elif self._held:
            self._channel.put(*self._held_pieces())

    def _is_to_server(self) -> bool:
        return self._status is not None and self.settle() is None

    def _send(self, data: bytes) -> bool:
        """Send a piece; False if nobody wants any more."""
        if self.is_left:
            return False
        if not data and not self._sent:
            # Header fields may still change before the first byte (PEP 3333).
            self._held = min(self._held + 1, MOST_HELD)
            is_endless = self._held == MOST_HELD and not self._is_whole
            return not (is_endless and self.deferral.writer is not None and self.is_cancelled)
        if self._status is None:
            raise AssertionError("a body was sent before start_response was called")
        writer = self._begin()
        if writer is not None and self._sent and self.is_cancelled:
            return False  # not at the first piece, which may be all: then it has answered
        if writer is not None and not self._sent and not self._is_whole:
            self.begin_passing(self._channel)
        self._sent += len(data)
        if writer is None:
            is_last = self._sent == _declared(self._headers)
            return self._channel.put(*self._held_pieces(), data, is_last=is_last)
        if writer.feed(data):
            writer.flush()
        # Recorded or not, it is the client's, if there is one.
        return self.pass_on(self._channel, data) or not writer.is_over

    def _held_pieces(self) -> list[bytes]:
        held, self._held = self._held, 0
        return [b""] * held

    def _begin(self) -> ResponseWriter | None:
        """Settle where the response goes, and send its status and header fields there."""
        writer = self.settle()
        if writer is not None and not writer.has_started and self._status is not None:
            self.begin(writer, int(self._status[:3]), from_wsgi_headers(self._headers))
        return writer

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None
    ) -> Any:
        if exc_info is not None and exc_info[1] is not None and self._sent:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self._status is not None:
            raise AssertionError("start_response was called a second time without exc_info")
        self._status, self._headers, self._exc_info = status, headers, exc_info
        return self._write

    def _write(self, data: bytes) -> None:
        if not self._send(data):
            raise OperationCancelled("nobody waits for this response any more")


def _declared(headers: Iterable[tuple[str, str]]) -> int | None:
    """Return the length of a body in bytes, as the application declares it."""
    for name, value in headers:
        if name.lower() == "content-length":
            return to_length(value)
    return None


def _copy(environ: WSGIEnvironment, body: IO[bytes]) -> WSGIEnvironment:
    """Give the handler an environ of its own: some servers clear theirs after the response."""
    copy = environ.copy()
    copy["wsgi.input"], copy["wsgi.multithread"] = body, True
    if "wsgi.file_wrapper" in environ:
        copy["wsgi.file_wrapper"] = FileWrapper  # the server's may need the server's thread
    return copy
