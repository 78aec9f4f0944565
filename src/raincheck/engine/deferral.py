"""What becomes of one request that may be deferred, for every gateway.

Where its response goes is the table of `fate`. Beside that: what an operation is made of, what is
said of it by its handler, and whose it is. Nothing here waits for a handler, a client or a clock:
a gateway tells what happens, from any thread, and waits itself for what it is told by `wake`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from raincheck.config.policy import Candidate
from raincheck.engine.engine import Engine
from raincheck.engine.fate import FATES, WHERE, Fate, Moment, Where
from raincheck.engine.idempotency import Sharing
from raincheck.engine.ownership import find_owner
from raincheck.engine.refusals import key_for, may_pass
from raincheck.engine.response_writer import ResponseWriter
from raincheck.engine.running import Run
from raincheck.engine.start import Accepted, Key, Source, Start
from raincheck.errors import OperationCancelled, RaincheckError
from raincheck.handler import UNMARKED, Marking
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, Progress, Reason


class Context(Protocol):
    """What requests of one middleware have in common."""

    engine: Engine

    def owner(self, source: Any) -> str | None:
        """Name the principal that a request belongs to; may block."""
        ...

    def webhook(self, source: Any) -> str | None:
        """Name the URL that is to be told of the end of a request's operation; may block."""
        ...


class Deferral:
    """Decides what becomes of one request. Thread-safe.

    Args:
        route: The request's path, without the root path.
        source: The request; None: it is not there yet.
        lock: Held where its fate changes; reentrant.
        wake: Called while the lock is held, whenever there is news for whoever waits.
        stop: Asks the handler to stop; may be called from any thread.
        ask_again: Has `find_owner` called where that may block; None: right here.
        is_answered: Whether it is too late for a 202.

    Attributes:
        operation: What it has become.
        writer: Where its response goes then.
        is_passing: Whether its response goes to the client, too: it has begun in time.
        has_ended: Whether its operation has.
        is_cancelled: Whether nobody wants the response any more.
        key: What makes other requests one with it.
        candidate: As what it came.
    """

    # Most requests have none of that:
    operation: Operation | None = None
    writer: ResponseWriter | None = None
    progress: Progress | None = None
    key: Key | None = None
    is_passing = has_ended = is_cancelled = False
    _marking = _recorded = UNMARKED  # what is said of it, and what of that the record has
    _is_reached = False  # its handler has been called, as far as can be told
    _is_due = False  # its handler has said that it is slow, or it has taken its time
    _is_attended = _is_resumed = False  # by its client itself; by a process that did not accept it

    def __init__(
        self,
        context: Context,
        candidate: Candidate,
        method: str,
        route: str,
        source: Source | None,
        *,
        lock: AbstractContextManager[object],
        wake: Callable[[], object],
        stop: Callable[[], object] | None = None,
        ask_again: Callable[[], object] | None = None,
        is_answered: bool = False,
    ) -> None:
        self.source = source
        self.fate = Fate.ANSWERED if is_answered else Fate.OPEN
        self._context = context
        self.candidate = candidate
        self._method, self._route = method, route
        self._lock, self._wake = lock, wake
        self._stop = stop or _nothing
        self._ask_again = ask_again
        self._handing_over = threading.Lock()

    def let_go(self) -> None:
        """Refer to nothing of the request and its gateway any more: it is over."""
        self.source = None
        self._wake = self._stop = self._ask_again = _nothing

    # --- its fate ------------------------------------------------------------------------------

    def _note(self, moment: Moment) -> Fate:
        with self._lock:
            self.fate = FATES[moment][self.fate]
            self._wake()
            return self.fate

    def hold(self) -> bool:
        """Let no response begin, as its budget is over; False if it is too late for that."""
        return self._note(Moment.DUE) is Fate.HELD

    def keep(self) -> None:
        """Have it go on as it is: there is no second promotion."""
        self._note(Moment.REFUSED)

    def respond(self) -> Where:
        """Settle where a response goes that is about to begin; no news as long as it has not."""
        if self.fate is Fate.ANSWERED:  # for good
            return Where.CLIENT
        with self._lock:
            self.fate = FATES[Moment.RESPONSE][self.fate]
            return self.where

    def end(self) -> None:
        """Take note that its handler is over."""
        self._note(Moment.OVER)

    @property
    def where(self) -> Where:
        """Where the response would go now."""
        return WHERE.get(self.fate, Where.CLIENT)

    @property
    def queue(self) -> str | None:
        """Where it waits, or will, for workers; None: its handler runs here."""
        return self._marking.queue if self.is_handed_over else self.candidate.queue

    @property
    def is_handed_over(self) -> bool:
        """Whether workers are to run its handler, which has been left."""
        return self.fate is Fate.HANDED_OVER

    @property
    def is_held(self) -> bool:
        """Whether no response may begin."""
        return self.fate is Fate.HELD

    # --- becoming an operation -----------------------------------------------------------------

    def prepare(self, sharing: Sharing | None = None) -> Start:
        """Say what it is to become; asks the application, and may block.

        Args:
            sharing: How others may be one with it; None: not at all.

        Raises:
            RaincheckError: What has to be compared of it is gone.
        """
        source, marking = self._present(), self._marking
        request, owner = source.describe(), self._ask_owner()
        if sharing is not None:
            self.key = self._key(sharing, request, owner or source.trusted_user())
        self._recorded = marking
        return Start(
            method=self._method,
            route=self._route,
            root_path=request.root_path,
            owner=owner,
            progress=self.progress,
            marking=marking,
            capture=source.capture_request,
            key=self.key,
            webhook=self._context.webhook(next(source.askable())),
            is_reached=self._is_reached or source.is_authenticated,
            is_attended=may_pass(self.candidate, sharing),
            queue=self.queue,
            not_before=marking.moment(),
        )

    def _present(self) -> Source:
        assert self.source is not None  # noqa: S101 - who has none is run again, and is recorded
        return self.source

    def _key(self, sharing: Sharing, request: Request, who: str | None) -> Key:
        body = self._present().body()
        if body is None:
            raise RaincheckError("somebody has read the body before it could be compared")
        return key_for(self._context.engine, sharing, request, self._route, who, body)

    def record(self, run: Run, start: Start) -> Accepted:
        """Record the operation; may block on the store.

        Args:
            run: Its handler, as the engine is to see it.

        Raises:
            Overloaded: Too many are in flight.
            StoreError: It could not be recorded.
        """
        return self._context.engine.accept(run, start)

    def attach(self, operation: Operation) -> ResponseWriter | None:
        """Have it answer to the store from now on; return what records that.

        Returns:
            None if its handler has said something meanwhile: `mark_again`, then this again.
        """
        with self._lock:
            if self._marking != self._recorded:
                return None
            writer = self._belong_to(operation, self._present().describe())
        if self.progress is not None and self.progress is not operation.progress:
            self.report(self.progress)  # it came while the operation was being recorded
        return writer

    def _belong_to(self, operation: Operation, request: Request) -> ResponseWriter:
        self.writer = writer = ResponseWriter(self._context.engine, operation, request)
        self.operation = operation
        self._note(Moment.RECORDED)
        return writer

    def mark_again(self, operation: Operation) -> None:
        """Record what its handler has said of itself meanwhile; may block on the store.

        Raises:
            StoreError: It could not be recorded: the operation has ended, and nobody heard of it.
        """
        marking, engine = self._marking, self._context.engine
        try:
            engine.mark(operation, marking, in_time=True)
        except BaseException:
            ResponseWriter(engine, operation).fail(Reason.INTERRUPTED)
            raise
        self._recorded = marking

    def resume(self, operation: Operation, request: Request) -> ResponseWriter:
        """Run what an earlier process was to run; return where it records."""
        self._is_resumed = True
        with self._lock:
            return self._belong_to(operation, request)

    # --- a client that waits for the response itself -------------------------------------------

    def attend(self) -> None:
        """Take note that its client waits for the response, although there is an operation."""
        self._is_attended = True

    def leave_alone(self) -> None:
        """Take note that its client waits for it no longer."""
        if self.operation is not None:
            self._context.engine.leave_alone(self.operation)

    def stop_attending(self) -> None:
        """Have no response that begins later go to its client: that is told to poll."""
        with self._lock:
            self._is_attended = False
            is_alone = not self.is_passing
        if is_alone:
            self.leave_alone()

    def note_due(self) -> None:
        """Take note that its client has waited as long as it may."""
        with self._lock:
            self._is_due = True
            self._wake()

    @property
    def is_due(self) -> bool:
        """Whether its client is to be answered 202 now, if it has any use for one."""
        return self._is_due and not self.candidate.in_person

    def begin_passing(self) -> None:
        """Have the response that begins now go to the client, too, unless it is told to poll."""
        with self._lock:
            self.is_passing = self._is_attended and not self.is_due
            self._wake()

    # --- what its handler and others say -------------------------------------------------------

    def defer(self, marking: Marking) -> None:
        """Take what a handler says of itself: it is slow; blocks on the store if that is recorded.

        Raises:
            OperationCancelled: Its operation has ended without it.
            StoreError: It could not be recorded, so the handler must not go on.
        """
        self.reach()
        with self._lock:
            self._marking, self._is_due = marking, True
            self._note(Moment.DUE)
            operation, writer = self.operation, self.writer
        if operation is None or writer is None:
            return
        if writer.is_given_up:
            raise OperationCancelled("the operation has ended before its handler was called")
        self._context.engine.mark(operation, marking)

    def hand_over(self, marking: Marking) -> bool:
        """Leave the handler to workers, before it begins; may block on the store.

        Returns:
            False if it is to run here, and is marked as any other: this is a worker, its client
            waits for the response itself, or it is too late.

        Raises:
            OperationCancelled: Its operation has ended, is to end, or another process has it.
            StoreError: It could not be handed over.
        """
        if self._is_resumed or self.candidate.in_person:
            self.defer(marking)
            return False
        with self._lock:
            if self.is_handed_over:
                return True
            self._is_reached = True
            operation, self._marking, self._is_due = self.operation, marking, True
            is_left = operation is None and self._note(Moment.LEFT) is Fate.HANDED_OVER
        if operation is not None and marking.queue is not None:
            is_left = self._hand_over(operation, marking.queue, marking.moment())
        if not is_left:
            self.defer(marking)
        return is_left

    def _hand_over(self, operation: Operation, queue: str, moment: float | None) -> bool:
        """Hand over what is recorded as one of this process; once, as handlers may call others."""
        with self._handing_over:
            if self.is_handed_over:
                return True
            self._ask_here()  # it may wait for days, and its owner wants to see it
            left = self._context.engine.queues.hand_over(operation, queue, moment)
            return left is not None and self._note(Moment.LEFT) is Fate.HANDED_OVER

    def report(self, progress: Progress) -> None:
        """Keep a handler's progress until there is an operation, then pass it on."""
        self.progress = progress
        self.reach()
        if self.operation is not None:
            self._context.engine.report(self.operation, progress)

    def request_cancel(self) -> None:
        """Ask the handler to stop."""
        self.is_cancelled = True
        self._stop()

    def give_up(self, reason: Reason) -> None:
        """End the operation without a response, unless it has one; may block on the store."""
        if self.writer is not None:
            self.writer.fail(reason)
            self.note_end()
        self.request_cancel()

    def note_end(self) -> None:
        """Take note that its operation has ended."""
        with self._lock:
            self.has_ended = True
            self._wake()

    # --- whose it is ---------------------------------------------------------------------------

    @property
    def is_nobodys(self) -> bool:
        """Whether its operation has no owner, as far as is known yet."""
        return self.operation is not None and self._context.engine.is_nobodys(self.operation)

    def reach(self) -> None:
        """Take note that its handler was reached, and have the owner asked for once for that."""
        is_first, self._is_reached = not self._is_reached, True
        if is_first and self.is_nobodys:
            (self._ask_again or self._ask_here)()

    def _ask_here(self) -> None:
        reason = self.find_owner()
        if reason is not None:
            self.give_up(reason)

    def find_owner(self, *, is_last: bool = False) -> Reason | None:
        """Ask for the owner again, while its operation is nobody's; may block.

        Returns:
            Why it has to be given up; None: it may go on.
        """
        if self.operation is None:
            return None
        is_there = self.source is not None and next(self.source.askable(), None) is not None
        ask = self._ask_owner if is_there else None
        return find_owner(self._context.engine, self.operation, ask, is_last=is_last)

    def _ask_owner(self) -> str | None:
        asked = map(self._context.owner, self._present().askable())
        return next((owner for owner in asked if owner is not None), None)


def _nothing() -> None:
    """Have no effect."""
