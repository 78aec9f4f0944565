"""One request that may be deferred: its handler's thread against its budget.

The handler runs in a thread of its own and the server's thread waits for it. Whichever comes first
wakes the server's thread: the handler has a response, its budget is over, or it is marked. What
becomes of the request says its `Deferral`.

Where the operation is recorded before the handler is begun (`accepted_first`, `rerun`), there is
no race: the response goes into the store.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any

from raincheck.config.policy import Candidate
from raincheck.engine.deferral import Deferral
from raincheck.engine.fate import Fate, Where
from raincheck.engine.idempotency import Sharing
from raincheck.engine.refusals import refuse_unaccepted
from raincheck.engine.response_writer import ResponseWriter
from raincheck.engine.start import Accepted, Source
from raincheck.errors import RaincheckError
from raincheck.handler import CURRENT, Marking
from raincheck.http.messages import Headers, Request, Response
from raincheck.operations.operation import Operation, Progress, Reason
from raincheck.runners.leaving import native_exit
from raincheck.wsgi.gateway import Gateway
from raincheck.wsgi.news import News
from raincheck.wsgi.passing import Passing
from raincheck.wsgi.waiting import PATIENCE

logger = logging.getLogger("raincheck")


class Race(Passing):
    """What the two threads of a request share.

    Args:
        method: The request's.
        path: The request's, without the root path.
        source: The request; None: it is not there yet.
    """

    is_rerun = False
    protocol = "wsgi"
    over = False  # the handler's thread is done with the request
    _is_recorded = False  # for workers, or refused
    _thread: int | None = None  # its handler's

    def __init__(
        self,
        gateway: Gateway,
        candidate: Candidate,
        method: str,
        path: str,
        source: Source | None = None,
    ) -> None:
        self.gateway = gateway
        self.candidate = candidate
        self.path = path
        self.news = news = News()
        self.deferral = Deferral(
            gateway, candidate, method, path, source, lock=news.lock, wake=news.tell
        )
        self.sign = object()  # in the environ that the application is given

    # --- what the two kinds of races do of their own -------------------------------------------

    def work(self) -> None:
        """Have the request handled."""
        raise NotImplementedError

    def drop(self) -> None:
        """Let go of the request's body: its handler is not called."""
        raise NotImplementedError

    def detached(self) -> None:
        """Take note that the server's thread may go on while the handler runs."""

    def abandon(self) -> None:
        """Take note that the server's thread is gone: nobody takes the response."""
        raise NotImplementedError

    def break_off(self, error: BaseException) -> None:
        """Have the server's thread wait for nothing any more: the handler's is gone."""
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

    def outcome(self) -> Operation | Response | None:
        """Wait until it is settled where the response goes.

        Returns:
            The operation if it goes to the store, or nowhere, as workers run the handler; what is
            to be answered if those can't; None if it goes to the server.
        """
        try:
            if self.deferral.fate is not Fate.KEPT:
                self._wait_for_budget(self._is_decided)
                if self.deferral.fate is Fate.ANSWERED:  # for good
                    return None
                is_held = self.deferral.hold()
                if self.is_left:
                    return self._leave_to_workers()
                if not is_held:
                    return None
                self._promote()
            if self.operation is None:
                with self.gateway.engine.health.stay(), self.gateway.waiting.begin(None):
                    self._wait(self._is_answered, None)
            return self.operation
        except BaseException:  # the server wants to stop this very thread
            self.deferral.keep()
            self._note_recorded()
            self.abandon()
            raise

    @property
    def is_left(self) -> bool:
        """Whether workers run the handler, which has been left before it began."""
        return self.deferral.is_handed_over

    def _leave_to_workers(self) -> Operation | Response | None:
        try:
            return self.accept().operation
        except Exception as error:
            return refuse_unaccepted(error, None, self.path, self.deferral.queue)
        finally:
            self._note_recorded()

    def _note_recorded(self) -> None:
        self._is_recorded = True
        self._wake()

    def until_recorded(self) -> None:
        """Wait until nothing of the request is needed any more, whose handler has been left."""
        if self.operation is None:
            self._wait(lambda: self._is_recorded, None)

    def is_answered_in_time(self) -> bool:
        """Wait for the response as long as its handler may take to begin it; a marked one may not.

        Returns:
            Whether it is being passed on, or its operation has ended without.
        """
        try:
            self._wait_for_budget(self._is_attended_to)
        finally:
            self.deferral.stop_attending()
        return self.is_passing or self._is_over

    def _is_attended_to(self) -> bool:
        return self.is_passing or self._is_over or self.deferral.is_due

    @property
    def _is_over(self) -> bool:
        return self.over or self.deferral.has_ended

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
        self.news.tell_all()

    def _wait(self, is_enough: Callable[[], bool], seconds: float | None) -> bool:
        return self.news.wait_for(is_enough, seconds)

    def _is_decided(self) -> bool:
        return self.deferral.fate is not Fate.OPEN and self._is_there_or_late()

    def _is_answered(self) -> bool:
        return self.deferral.fate is Fate.ANSWERED and self._is_there_or_late()

    def _is_there_or_late(self) -> bool:
        return self.deferral.fate is not Fate.ANSWERED or self.over or self.has_begun()

    def has_begun(self) -> bool:
        """Tell whether there is something of a response that goes to the server."""
        return True

    def _promote(self) -> None:
        try:
            self.accept()
        except RaincheckError as error:
            logger.warning("%r stays synchronous: %s", self.path, error)
        except Exception:
            logger.exception("%r stays synchronous", self.path)
        finally:
            self.deferral.keep()  # unless it is recorded: there is no other promotion

    def accept(self, sharing: Sharing | None = None) -> Accepted:
        """Record the operation that this becomes, unless another request has become it before.

        Raises:
            Overloaded: Too many are in flight.
            StoreError: It could not be recorded.
        """
        accepted = self.deferral.record(self, self.deferral.prepare(sharing))
        if accepted.is_new and self.deferral.queue is None:
            while not self._attach(accepted.operation):
                self.deferral.mark_again(accepted.operation)
            self.detached()
        return accepted

    def _attach(self, operation: Operation) -> bool:
        """From here on the handler answers to the store."""
        with self.news.lock:
            if self.deferral.attach(operation) is None:
                return False
            self.gateway.running.adopt(self)
            return True

    def resume(self, operation: Operation, request: Request) -> None:
        """Be another run of an operation whose first run was lost."""
        self.is_rerun = operation.attempts > 1
        self.deferral.resume(operation, request)
        self.gateway.running.adopt(self)

    # --- the handler's thread ------------------------------------------------------------------

    def run(self) -> None:
        """Have the request handled, and see to its end whatever happens."""
        CURRENT.set(self)  # in this request's context only
        self._thread = threading.get_ident()
        try:
            self.work()
        except BaseException as error:  # our own defect, but a 202 may be out already
            logger.exception("%r could not be handled", self.path)
            self.break_off(error)
            if (writer := self.settle()) is not None:
                self.conclude(writer, error)
        finally:
            self.over = True
            self.deferral.end()
            if self.operation is not None:
                self.gateway.running.release(self)

    def is_here(self) -> bool:
        """Tell whether this is the very thread of its handler."""
        return self._thread == threading.get_ident()

    def settle(self) -> ResponseWriter | None:
        """Wait until it is settled where the response goes.

        Returns:
            Where to record it; None if it goes to the server, or nowhere (`is_left`).
        """
        while (where := self.deferral.respond()) is Where.WAIT:
            self.news.wait_for(lambda: not self.deferral.is_held)
        return self.deferral.writer if where is Where.STORE else None

    def begin(self, writer: ResponseWriter, status: int, headers: Headers) -> None:
        """Record the beginning of the response, once it is known whose it is."""
        self._find_owner(is_last=True)
        writer.start(status, headers)

    def complete(self, writer: ResponseWriter) -> None:
        """End the operation with what was recorded, and let those know who wait for it."""
        writer.complete()
        self.deferral.note_end()

    def conclude(self, writer: ResponseWriter, error: BaseException | None) -> None:
        """End the operation of a handler that is over, unless its response has ended it."""
        # In a thread of its own, a handler that exits ends nothing but itself.
        exits = isinstance(error, (SystemExit, KeyboardInterrupt))
        if not writer.has_started:
            self._find_owner()
        writer.conclude(None if exits else error, is_cancelled=self.is_cancelled)
        self.deferral.note_end()

    def _find_owner(self, *, is_last: bool = False) -> None:
        reason = self.deferral.find_owner(is_last=is_last)
        if reason is not None:
            self.give_up(reason)

    # --- what the handler and others say -------------------------------------------------------

    @property
    def operation(self) -> Operation | None:
        """What the request has become, if it was deferred."""
        return self.deferral.operation

    @property
    def operation_id(self) -> str | None:
        """The operation's id, once there is one."""
        return self.operation.id if self.operation else None

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the response any more."""
        return self.deferral.is_cancelled

    @property
    def is_stranded(self) -> bool:
        """Whether it will never go on: a thread always does."""
        return False

    def defer(self, marking: Marking) -> None:
        """Have the request answered 202, unless it has been answered or is over."""
        self.deferral.defer(marking)

    def hand_over(
        self, marking: Marking, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> BaseException | None:
        """Have workers run the handler; see `Deferrable`."""
        is_left = self.deferral.hand_over(marking)
        return native_exit(args, kwargs, self.scope) if is_left else None

    @property
    def scope(self) -> Mapping[str, Any] | None:
        """What the application was given with the request, if it is known."""
        return None

    def report(self, progress: Progress) -> None:
        """Keep a handler's progress until there is an operation, then pass it on."""
        self.deferral.report(progress)

    def enter(self) -> None:
        """Need no note of a sync handler: its end is its thread's."""

    def leave(self) -> None:
        """Need no note of a sync handler: its end is its thread's."""

    def request_cancel(self) -> None:
        """Have the handler know that nobody waits for it; no thread can be stopped."""
        self.deferral.request_cancel()

    def give_up(self, reason: Reason) -> None:
        """End the operation without a response, unless it has one, and have the handler know."""
        self.deferral.give_up(reason)
