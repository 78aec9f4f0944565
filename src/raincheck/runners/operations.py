"""Work that is no handler: any program finishes what a handler, or a path, has only accepted.

operations = Operations("postgresql://localhost/shop", application="shop")
while (work := operations.claim("nightly")) is not None:
    with work:
        work.progress(1, total=2)
        work.complete(200, {"Content-Type": "text/csv"}, rows)
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import IO, Any, Self

from raincheck.config.options import Settings
from raincheck.engine.engine import Engine
from raincheck.engine.response_writer import ResponseWriter
from raincheck.errors import ConfigurationError, OperationCancelled
from raincheck.handler.current import progress_of
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, Reason
from raincheck.operations.store import Store
from raincheck.stores.default import store_from

logger = logging.getLogger("raincheck")

Fields = Mapping[str, str] | Iterable[tuple[str, str]]


class Operations:
    """Takes operations out of queues, for a program that finishes them itself. Thread-safe.

    Args:
        store: Its URL, or the store. Default: `RAINCHECK_STORE`.
        application: The option of that name of the application that accepts.
        options: Others of its options that matter here: `retention`, `encryption_key`, `timeout`,
            `max_attempts`, `bodies`, `webhook_secret`.

    Raises:
        ConfigurationError: An option is unknown or has a wrong value, or no store is named: the
            one that an application has without being told is not that of another program.
    """

    def __init__(
        self, store: str | Store | None = None, *, application: str, **options: Any
    ) -> None:
        if not application:
            raise ConfigurationError("application must be the name that the application has")
        if store is None and not os.environ.get("RAINCHECK_STORE"):
            raise ConfigurationError("give the store that the application has, or RAINCHECK_STORE")
        settings = Settings.build({**options, "store": store, "application": application})
        self._engine = Engine(settings, store_from(settings), "")
        self._engine.recovery.rerunner = self._given = _Given(self._engine)
        self._lock = threading.Lock()

    def claim(self, queue: str) -> Work | None:
        """Take the oldest operation that waits in a queue and is due; None: there is none.

        Its lease is renewed in the background until it is completed, so it may take its time.

        Raises:
            StoreError: The store can't be asked.
        """
        with self._lock:
            self._engine.queues.served = frozenset({queue})
            self._engine.heartbeat.ensure()
            self._engine.queues.take_due(1)
            return self._given.take()

    def close(self) -> None:
        """Release what was not completed, and what the store has opened."""
        for running in self._engine.running.all():
            if isinstance(running.run, Work):
                running.run.release()
        self._engine.close()


class Work:
    """An operation that this program works on, until it is completed or fails.

    As a context manager it fails if it is left without being completed.

    Attributes:
        request: As it came, without its body.
        body: The request's, from its beginning.
    """

    is_stranded = False

    def __init__(
        self, engine: Engine, operation: Operation, request: Request, body: IO[bytes]
    ) -> None:
        self.request = request
        self.body = body
        self._engine = engine
        self._operation = operation
        self._writer = ResponseWriter(engine, operation, request)
        self._is_cancelled = False

    @property
    def id(self) -> str:
        """The operation's id."""
        return self._operation.id

    @property
    def attempt(self) -> int:
        """How often it has been begun, this time included."""
        return self._operation.attempts

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the response any more, or another program works on it by now."""
        return self._is_cancelled

    def raise_if_cancelled(self) -> None:
        """Stop if nobody wants the response any more.

        Raises:
            OperationCancelled: The operation is cancelled.
        """
        if self._is_cancelled:
            raise OperationCancelled("the operation was cancelled")

    def progress(
        self, completed: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Say how far it is; see `current_operation().progress`."""
        self._engine.report(self._operation, progress_of(completed, total, message))

    def complete(
        self, status: int = 200, headers: Fields = (), body: bytes | Iterable[bytes] = b""
    ) -> None:
        """End the operation with a response; nothing happens if it has ended.

        Args:
            status: Of the response; from 400 on the operation has failed.
            headers: Its fields, of Latin-1 characters.
            body: All of it, or pieces of any size.

        Raises:
            ValueError: The status or a field is none that a server could send.
        """
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
        self._writer.start(status, fields)
        for piece in [body] if isinstance(body, bytes) else body:
            if self._writer.feed(piece):
                self._writer.flush()
        self._writer.complete()
        self.body.close()

    def fail(self) -> None:
        """End the operation without a response; nothing happens if it has ended."""
        self._writer.fail(Reason.EXCEPTION)
        self.body.close()

    def release(self) -> None:
        """Put it back into its queue, as this program ends; what may not be run again fails."""
        self._writer.fail(Reason.SHUTDOWN)
        self.body.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        is_cancelled = isinstance(error, OperationCancelled)
        if error is None or isinstance(error, Exception):
            self.fail()
        else:
            self.release()
        return is_cancelled

    # --- what the engine asks and says ---------------------------------------------------------

    def request_cancel(self) -> None:
        """Have the program know that nobody wants the response."""
        self._is_cancelled = True

    def give_up(self, reason: Reason) -> None:
        """End the operation without a response, unless it has one."""
        self._writer.fail(reason)
        self.request_cancel()


class _Given:
    """Takes what is claimed here, and has it handed to the program."""

    is_ready, needs_loop = True, False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._given: list[Work] = []

    def take(self) -> Work | None:
        return self._given.pop() if self._given else None

    def rerun(self, operation: Operation, request: Request, body: IO[bytes]) -> Work:
        self._given.append(work := Work(self._engine, operation, request, body))
        return work

    def begin(self) -> None: ...

    def drain(self) -> None: ...
