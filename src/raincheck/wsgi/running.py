"""Who still runs in this process: waited for when the process is to end."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from raincheck.engine.engine import Engine
from raincheck.engine.per_process import PerProcess
from raincheck.engine.running import LAST_WORDS, Deferred
from raincheck.operations.operation import Reason
from raincheck.wsgi import leaving

logger = logging.getLogger("raincheck")


class Running:
    """The deferred handlers of one middleware.

    Args:
        close: Lets all polls that wait have their answers now.
    """

    def __init__(self, engine: Engine, close: Callable[[], None]) -> None:
        self.engine = engine
        self._close = close
        self._handlers_of = PerProcess(set[Deferred])  # a fork has none of the threads
        self._stopping: int | None = None  # the process that is
        self._released = threading.Condition(threading.Lock())

    def __len__(self) -> int:
        return len(self._handlers)

    @property
    def _handlers(self) -> set[Deferred]:
        return self._handlers_of.get()

    def adopt(self, handler: Deferred) -> None:
        """Count a handler whose server has forgotten it, so that the process waits for it."""
        leaving.wait_for(self)
        with self._released:
            self._handlers.add(handler)

    def release(self, handler: Deferred) -> None:
        """Let go of a deferred handler that is over."""
        with self._released:
            self._handlers.discard(handler)
            self._released.notify_all()
        if handler.operation is not None:
            self.engine.land(handler.operation)

    @property
    def is_stopping(self) -> bool:
        """Whether this process is about to end."""
        return self._stopping == os.getpid()

    def stop(self) -> None:
        """Run nothing again here, and let all who wait have their answers now."""
        self._stopping = os.getpid()
        self._close()

    def drain(self, begin: float | None = None) -> None:
        """Let running handlers end for a while, then release the rest, or end it.

        Args:
            begin: When the shutdown began, by the monotonic clock; default: now.
        """
        self.stop()
        begin = time.monotonic() if begin is None else begin
        end = begin + self.engine.settings.drain
        self._wait_until_idle(end)
        left = list(self._handlers)
        for handler in left:
            handler.give_up(Reason.SHUTDOWN)
        if left:
            logger.warning("shutdown stopped %d operations that were still running", len(left))
            self._wait_until_idle(end + LAST_WORDS)
            for handler in left:
                self.release(handler)  # it has had its time, should there be a second drain
        self.engine.close()

    def _wait_until_idle(self, end: float) -> None:
        with self._released:
            rest = max(0.0, end - time.monotonic())
            self._released.wait_for(lambda: not self._handlers, rest)
