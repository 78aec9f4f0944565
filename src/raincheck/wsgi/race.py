"""One request that may be deferred: its handler's thread against its budget.

The handler runs in a thread of its own and the server's thread waits for it. Whichever comes first
wakes the server's thread: the handler has a response, its budget is over, or it is marked. `_hold`
is the one gate: while it is closed, the handler's thread can't begin a response.
"""

from __future__ import annotations

import logging
import threading
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

from raincheck.errors import RaincheckError
from raincheck.marking import CURRENT
from raincheck.operation import Operation, Progress
from raincheck.policy import Candidate
from raincheck.recording import Recording
from raincheck.wsgi.waiting import PATIENCE

if TYPE_CHECKING:
    from raincheck.wsgi.gateway import Gateway

logger = logging.getLogger("raincheck")


class Race:
    """What the two threads of a request share.

    Args:
        method: The request's.
        path: The request's, without the root path.
    """

    def __init__(self, gateway: Gateway, candidate: Candidate, method: str, path: str) -> None:
        self.gateway = gateway
        self.candidate = candidate
        self.path = path
        self.changed = threading.Condition(threading.Lock())
        self.over = False  # the handler's thread is done with the request
        self.is_cancelled = False
        self.operation: Operation | None = None
        self.recording: Recording | None = None
        self.progress: Progress | None = None
        self._method = method
        self._hold = candidate.budget == 0
        self._is_settled = False  # the response goes to the server
        self._stays = False  # as it is: there is no second promotion

    # --- the server's thread -------------------------------------------------------------------

    def owner(self) -> str | None:
        """Name the principal that the request belongs to."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Take note that the server's thread is gone: nobody takes the response."""
        raise NotImplementedError

    def start(self) -> bool:
        """Begin `work` in another thread; False if the system allows no more."""
        try:
            self.gateway.threads.run(partial(copy_context().run, self._run))
            return True
        except RuntimeError as error:
            logger.warning("%r stays synchronous: %s", self.path, error)
            return False

    def outcome(self) -> Operation | None:
        """Wait until it is settled where the response goes.

        Returns:
            The operation if it goes to the store; None if it goes to the server.
        """
        try:
            if self._is_answered_in_time():
                return None
            operation = self._promote()
            if operation is None:
                with self.gateway.core.health.stay():
                    self._wait(None)
            return operation
        except BaseException:  # the server wants to stop this very thread
            self._open_gate()
            self.abandon()
            raise

    def _is_answered_in_time(self) -> bool:
        budget = self.candidate.budget
        if not self._wait(budget if budget is None else min(budget, PATIENCE)):
            waiting = self.gateway.waiting
            if budget is not None and budget > PATIENCE and waiting.begin():
                try:
                    self._wait(budget - PATIENCE)
                finally:
                    waiting.end()
        with self.changed:
            self._hold = not (self._is_settled or self.over)
            return not self._hold

    def _wait(self, seconds: float | None) -> bool:
        with self.changed:
            return self.changed.wait_for(self._is_decided, seconds)

    def _is_decided(self) -> bool:
        return self._is_settled or self.over or self._hold

    def _promote(self) -> Operation | None:
        try:
            return self._accept()
        finally:
            self._open_gate()

    def _open_gate(self) -> None:
        with self.changed:
            self._hold = False
            self._stays = True
            self.changed.notify_all()

    def _accept(self) -> Operation | None:
        try:
            operation = self.gateway.core.accept(
                self,
                method=self._method,
                route=self.path,
                owner=self.owner(),
                progress=self.progress,
            )
        except RaincheckError as error:
            logger.warning("%r stays synchronous: %s", self.path, error)
            return None
        except Exception:
            logger.exception("%r stays synchronous", self.path)
            return None
        self.gateway.adopt(self)
        self.recording = Recording(self.gateway.core, operation)
        self.operation = operation
        if self.progress is not None and self.progress is not operation.progress:
            self.report(self.progress)  # it came while the operation was being recorded
        return operation

    # --- the handler's thread ------------------------------------------------------------------

    def work(self) -> None:
        """Have the request handled."""
        raise NotImplementedError

    def _run(self) -> None:
        CURRENT.set(self)  # in this request's context only
        try:
            self.work()
        except BaseException as error:  # our own defect, but a 202 may be out already
            logger.exception("%r could not be handled", self.path)
            if (recording := self.settle()) is not None:
                recording.conclude(error, is_cancelled=self.is_cancelled)
        finally:
            with self.changed:
                self.over = True
                self.changed.notify_all()
            if self.operation is not None:
                self.gateway.release(self)

    def settle(self) -> Recording | None:
        """Wait until it is settled where the response goes.

        Returns:
            Where to record it; None if it goes to the server.
        """
        with self.changed:
            while self._hold:
                self.changed.wait()
            self._is_settled = self.recording is None
            return self.recording

    # --- what the handler and others say -------------------------------------------------------

    @property
    def operation_id(self) -> str | None:
        """The operation's id, once there is one."""
        return self.operation.id if self.operation else None

    def defer(self) -> None:
        """Have the request answered 202, unless it has been answered or is over."""
        with self.changed:
            if not (self._is_settled or self.over or self.operation or self._stays):
                self._hold = True
                self.changed.notify_all()

    def enter(self) -> None:
        """Need no note of a sync handler: its end is its thread's."""

    def leave(self) -> None:
        """Need no note of a sync handler: its end is its thread's."""

    def report(self, progress: Progress) -> None:
        """Keep a handler's progress until there is an operation, then pass it on."""
        self.progress = progress
        if self.operation is not None:
            self.gateway.core.report(self.operation, progress)

    def request_cancel(self) -> None:
        """Have the handler know that nobody waits for it; no thread can be stopped."""
        self.is_cancelled = True
