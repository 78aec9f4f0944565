"""One request that may be deferred: its handler's thread against its budget.

The handler runs in a thread of its own and the server's thread waits for it. Whichever comes first
wakes the server's thread: the handler has a response, its budget is over, or it is marked. `_hold`
is the one gate: while it is closed, the handler's thread can't begin a response.

Where the operation is recorded before the handler is begun (`accepted_first`, `rerun`), there is
no race: the response goes into the store.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from contextvars import copy_context
from functools import partial

from raincheck.config.policy import Candidate
from raincheck.engine.idempotency import Sharing
from raincheck.engine.refusals import key_for
from raincheck.engine.response_writer import ResponseWriter
from raincheck.engine.start import Accepted, Captured, Key, Start
from raincheck.errors import OperationCancelled, RaincheckError
from raincheck.handler import CURRENT, UNMARKED, Marking
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, Progress, Reason
from raincheck.wsgi.gateway import Gateway
from raincheck.wsgi.passing import Passing
from raincheck.wsgi.translation import certified_user
from raincheck.wsgi.waiting import PATIENCE

logger = logging.getLogger("raincheck")


class Race(Passing):
    """What the two threads of a request share.

    Args:
        method: The request's.
        path: The request's, without the root path.
    """

    is_rerun = False
    protocol = "wsgi"
    marking = UNMARKED
    key: Key | None = None

    def __init__(self, gateway: Gateway, candidate: Candidate, method: str, path: str) -> None:
        self.gateway = gateway
        self.candidate = candidate
        self.path = path
        self.changed = threading.Condition()
        self.sign = object()  # in the environ that the application is given
        self.over = False  # the handler's thread is done with the request
        self.is_cancelled = False
        self.operation: Operation | None = None
        self.writer: ResponseWriter | None = None
        self.progress: Progress | None = None
        self._method = method
        self._hold = False
        self._is_settled = False  # the response goes to the server
        self._stays = False  # as it is: there is no second promotion
        self._is_due = False  # its handler has said that it is slow
        self._is_called = False  # its handler is, as far as can be told
        self._thread: int | None = None  # its handler's
        self._has_ended = False  # its operation has
        self._may_pass = False  # its client waits for the response itself
        self.is_passing = False  # the response goes to the client, too: it has begun in time
        self._is_left = False  # by the client to which it goes

    # --- what the two kinds of races say of their request --------------------------------------

    def request(self) -> Request:
        """Describe the request as it came."""
        raise NotImplementedError

    def body(self) -> Iterable[bytes] | None:
        """Return the request's body, without disturbing its handler; None if it can't be had."""
        raise NotImplementedError

    def remote_user(self) -> str | None:
        """Name the user whom the server, and no header field, says the request comes from."""
        raise NotImplementedError

    def drop(self) -> None:
        """Let go of the request's body: its handler is not called."""
        raise NotImplementedError

    @property
    def is_reached(self) -> bool:
        """Whether the handler has been called, as far as can be told."""
        return self._is_called

    def is_here(self) -> bool:
        """Tell whether this is the very thread of its handler."""
        return self._thread == threading.get_ident()

    def detached(self) -> None:
        """Take note that the server's thread may go on while the handler runs."""

    def abandon(self) -> None:
        """Take note that the server's thread is gone: nobody takes the response."""
        raise NotImplementedError

    # --- the server's thread -------------------------------------------------------------------

    def start(self) -> bool:
        """Begin `work` in another thread; False if the system allows no more."""
        return self._in_thread(self.run)

    def _in_thread(self, work: Callable[[], None]) -> bool:
        try:
            self.gateway.threads.run(partial(copy_context().run, work))
            return True
        except RuntimeError as error:
            logger.warning("no thread for %r: %s", self.path, error)
            return False

    def outcome(self) -> Operation | None:
        """Wait until it is settled where the response goes.

        Returns:
            The operation if it goes to the store; None if it goes to the server.
        """
        try:
            if not self._stays and self._is_answered_in_time():
                return None
            operation = None if self._stays else self._promote()
            if operation is None:
                with self.gateway.engine.health.stay(), self.gateway.waiting.begin(None):
                    self._wait(self._is_decided, None)
            return operation
        except BaseException:  # the server wants to stop this very thread
            self.stay()
            self.abandon()
            raise

    def _is_answered_in_time(self) -> bool:
        self._wait_for_budget(self._is_decided)
        with self.changed:
            self._hold = not (self._is_settled or self.over)
            return not self._hold

    def expect(self, may_pass: bool) -> None:
        """Say whether the response may go to the client, too, if it begins in time."""
        self._may_pass = may_pass

    def is_answered_in_time(self) -> bool:
        """Wait for the response as long as its handler may take to begin it; a marked one may not.

        Returns:
            Whether it is being passed on, or its operation has ended without.
        """
        try:
            self._wait_for_budget(self._is_answered)
        finally:
            with self.changed:
                self._may_pass = False  # from now on
                is_alone = not self.is_passing
            if is_alone:
                self.leave_alone()
        return self.is_passing or self.over or self._has_ended

    def _is_answered(self) -> bool:
        is_due = self._is_due and not self.candidate.in_person
        return self.is_passing or self.over or self._has_ended or is_due

    def _wait_for_budget(self, is_enough: Callable[[], bool]) -> None:
        budget = self.candidate.budget
        first = PATIENCE if budget is None else min(budget, PATIENCE)
        if self._wait(is_enough, first) or (budget is not None and budget <= PATIENCE):
            return
        rest = None if budget is None else budget - PATIENCE
        # Without a budget only its mark may defer it.
        with self.gateway.waiting.begin(None if rest is None else self._wake) as turn:
            turn.wait(partial(self._wait, lambda: is_enough() or turn.is_called), rest)

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _wait(self, is_enough: Callable[[], bool], seconds: float | None) -> bool:
        with self.changed:
            return self.changed.wait_for(is_enough, seconds)

    def _is_decided(self) -> bool:
        return self._is_settled or self.over or self._hold

    def _promote(self) -> Operation | None:
        try:
            return self.accept().operation
        except RaincheckError as error:
            logger.warning("%r stays synchronous: %s", self.path, error)
        except Exception:
            logger.exception("%r stays synchronous", self.path)
        finally:
            self.stay()
        return None

    def stay(self) -> None:
        """Have it go on as it is: there is no other promotion."""
        with self.changed:
            self._hold = False
            self._stays = True
            self.changed.notify_all()

    def accept(self, sharing: Sharing | None = None) -> Accepted:
        """Record the operation that this becomes, unless another request has become it before.

        Raises:
            Overloaded: Too many are in flight.
            StoreError: It could not be recorded.
        """
        marking, request = self.marking, self.request()  # before anything is recorded: it may raise
        accepted = self.gateway.engine.accept(self, self._start(request, marking, sharing))
        if accepted.is_new:
            self._publish(accepted.operation, marking, request)
        return accepted

    def _start(self, request: Request, marking: Marking, sharing: Sharing | None) -> Start:
        owner = self._ask_owner()
        if sharing is not None:
            self.key = self._key(sharing, owner or self._told_user())
        return Start(
            method=self._method,
            route=self.path,
            root_path=request.root_path,
            owner=owner,
            progress=self.progress,
            marking=marking,
            capture=self._capture,
            key=self.key,
            webhook=self.gateway.webhook(self.source()),
            is_reached=self.is_reached,
            is_attended=sharing is not None and self.candidate.budget != 0,
        )

    def _key(self, sharing: Sharing, who: str | None) -> Key:
        body = self.body()
        if body is None:
            raise RaincheckError("somebody has read the body before it could be compared")
        return key_for(self.gateway.engine, sharing, self.request(), self.path, who, body)

    def _capture(self) -> Captured | None:
        request, body = self.request(), self.body()
        # Neither a user whom no field names nor a path that is no UTF-8 can be told again.
        if body is None or self._told_user() is not None or "\ufffd" in request.path:
            return None
        return Captured(request, body)

    def _told_user(self) -> str | None:
        return self.remote_user() or certified_user(self.source())

    def _publish(self, operation: Operation, marking: Marking, request: Request) -> None:
        """From here on the handler answers to the store."""
        writer = ResponseWriter(self.gateway.engine, operation, request)
        try:
            while not self._attach(operation, writer, marking):
                marking = self.marking  # its handler was called meanwhile
                self.gateway.engine.mark(operation, marking, in_time=True)
        except BaseException:
            writer.fail(Reason.INTERRUPTED)  # nobody has heard of it
            raise
        self.detached()
        if self.progress is not None and self.progress is not operation.progress:
            self.report(self.progress)  # it came while the operation was being recorded

    def _attach(self, operation: Operation, writer: ResponseWriter, marking: Marking) -> bool:
        with self.changed:
            if self.marking != marking:
                return False
            self.gateway.running.adopt(self)
            self.writer, self.operation = writer, operation
            return True

    def resume(self, operation: Operation, request: Request) -> None:
        """Be another run of an operation whose first run was lost."""
        self.is_rerun = True
        writer = ResponseWriter(self.gateway.engine, operation, request)
        self._attach(operation, writer, UNMARKED)

    # --- the handler's thread ------------------------------------------------------------------

    def work(self) -> None:
        """Have the request handled."""
        raise NotImplementedError

    def run(self) -> None:
        """Have the request handled, and see to its end whatever happens."""
        CURRENT.set(self)  # in this request's context only
        self._thread = threading.get_ident()
        try:
            self.work()
        except BaseException as error:  # our own defect, but a 202 may be out already
            logger.exception("%r could not be handled", self.path)
            if (writer := self.settle()) is not None:
                self.conclude(writer, error)
        finally:
            with self.changed:
                self.over = True
                self.changed.notify_all()
            if self.operation is not None:
                self.gateway.running.release(self)

    def settle(self) -> ResponseWriter | None:
        """Wait until it is settled where the response goes.

        Returns:
            Where to record it; None if it goes to the server.
        """
        with self.changed:
            while self._hold:
                self.changed.wait()
            self._is_settled = self.writer is None
            return self.writer

    def complete(self, writer: ResponseWriter) -> None:
        """End the operation with what was recorded, and let those know who wait for it."""
        writer.complete()
        self._note_end()

    def conclude(self, writer: ResponseWriter, error: BaseException | None) -> None:
        """End the operation of a handler that is over, unless its response has ended it."""
        # In a thread of its own, a handler that exits ends nothing but itself.
        exits = isinstance(error, (SystemExit, KeyboardInterrupt))
        if not writer.has_started:
            self._find_owner()
        writer.conclude(None if exits else error, is_cancelled=self.is_cancelled)
        self._note_end()

    def _note_end(self) -> None:
        with self.changed:
            self._has_ended = True
            self.changed.notify_all()

    # --- what the handler and others say -------------------------------------------------------

    @property
    def operation_id(self) -> str | None:
        """The operation's id, once there is one."""
        return self.operation.id if self.operation else None

    def defer(self, marking: Marking) -> None:
        """Have the request answered 202, unless it has been answered or is over."""
        self.reach()
        with self.changed:
            self.marking = marking
            operation = self.operation
            if operation is None and not (self._is_settled or self.over or self._stays):
                self._hold = True
            self._is_due = True
            self.changed.notify_all()
        if operation is not None:
            if self.writer is not None and self.writer.is_over:
                raise OperationCancelled("the operation has ended before its handler was called")
            self.gateway.engine.mark(operation, marking)

    def enter(self) -> None:
        """Need no note of a sync handler: its end is its thread's."""

    def leave(self) -> None:
        """Need no note of a sync handler: its end is its thread's."""

    def report(self, progress: Progress) -> None:
        """Keep a handler's progress until there is an operation, then pass it on."""
        self.progress = progress
        self.reach()
        if self.operation is not None:
            self.gateway.engine.report(self.operation, progress)

    @property
    def is_stranded(self) -> bool:
        """Whether it will never go on: a thread always does."""
        return False

    def request_cancel(self) -> None:
        """Have the handler know that nobody waits for it; no thread can be stopped."""
        self.is_cancelled = True

    def give_up(self, reason: Reason) -> None:
        """End the operation without a response, unless it has one, and have the handler know."""
        if self.writer is not None:
            self.writer.fail(reason)
            self._note_end()
        self.request_cancel()
