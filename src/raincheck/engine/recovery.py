"""Operations whose process is gone: released to be run again, or ended; and run again here.

Whoever looks may do it, at its turn or because a poll asks: all of it goes through the store's
compare-and-set, so that of several processes one wins.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO

from raincheck.engine.captured_request import CapturedRequests
from raincheck.engine.frozen import is_frozen_between_requests
from raincheck.engine.process import Process
from raincheck.engine.repository import Walk
from raincheck.engine.rerunner import Rerunner
from raincheck.engine.running import RunningOperation, each
from raincheck.errors import NewerRecord, StoreError, StoreUnavailable, WrongKey
from raincheck.http.messages import Request
from raincheck.operations.operation import (
    CLAIMED,
    Operation,
    Reason,
    State,
    has_waited_in_vain,
    is_abandoned,
    may_be_owned,
)
from raincheck.operations.store import Filter
from raincheck.operations.transitions import Claimed, Ended, Event, Released, after_loss

logger = logging.getLogger("raincheck")

# Seconds that a store has answered before leases tell who is gone. Those who live have to notice
# first that it is back, and to renew: their last attempt may begin after three seconds and hang for
# ten (`stores.patience`), and a probe and a beat follow.
STEADY = 15.0
TURN = 1.0  # seconds of each at a time: there are leases to renew, too
REST = 4.0  # times as long as a look at what waits took in vain, if that was longer than a turn
LOOK = 60.0  # seconds between looks at all that waits, whatever can be done about it here
# Seconds for which what this process has no key for, or does not understand, is left to others: a
# deploy may bring one that does.
KEY_AWAITED = 600.0
UNHEARD = 60.0  # seconds within which the store may carry out a call whose answer was lost
_WAITING = frozenset({State.ACCEPTED})


class _Round:
    """One look at all that waits for this application; it may take several turns."""

    def __init__(self) -> None:
        self.walk: Walk | None = None
        self._rests_until = -math.inf
        self._begun = 0.0
        self._turns = 0
        self._has_taken = False

    @property
    def rests(self) -> bool:
        return self.walk is None and time.monotonic() < self._rests_until

    def begin(self, walk: Walk) -> None:
        self.walk, self._begun = walk, time.monotonic()
        self._turns, self._has_taken = 0, False

    def end_turn(self, walk: Walk, taken: int, *, is_full: bool) -> None:
        """Take note of what a turn has brought: what is older comes first if any was taken."""
        self._turns += 1
        self._has_taken |= taken > 0
        if not (walk.is_over or is_full):
            return
        self.walk = None
        if self._turns > 1 and not self._has_taken:  # to look at so much again would be in vain
            now = time.monotonic()
            self._rests_until = now + min(LOOK, REST * (now - self._begun))


class Recovery:
    """What one process does about operations that nobody runs.

    Attributes:
        rerunner: Who can run a captured request here; None: nobody.
        has_more: Whether the last turn was too short for what there is to do.
        has_released: Whether something went back into a queue, whose workers are not told yet.
    """

    def __init__(self, process: Process, requests: CapturedRequests) -> None:
        self.rerunner: Rerunner | None = None
        self.requests = requests
        self.has_more = self.has_released = False
        self._suspects = deque[Operation]()  # of the last look
        self._looked = -math.inf
        self._all: Walk | None = None  # through what waits; a turn goes on where the last stopped
        self._ours = _Round()
        self._puzzling = set[str]()  # ids of what is left to others, and was said to be
        self._process = process
        self._store = process.store
        self._repository = process.repository

    # --- whose process is gone -----------------------------------------------------------------

    def let_go(self) -> int:
        """Release or end operations that nobody runs any more; return how many."""
        end = time.monotonic() + TURN
        with self._process.health.noticing():
            now = self._store.now()
            if not self._suspects:
                self._suspects.extend(self._find_suspects(now))
            self._let_go_of_unanswered()
        self._process.health.note_answer(now)
        let_go = sum(each(self._let_go_if_abandoned, self._take_suspects(end)))
        self.has_more = bool(self._suspects)
        return let_go

    def _find_suspects(self, now: float) -> Iterator[Operation]:
        """Yield what has no lease any more, or a worker that is known to be gone."""
        yield from self._repository.find_all(Filter(states=CLAIMED, lease_before=now))
        if (liveness := self._process.liveness) is not None:
            for worker in self._repository.workers():
                if not liveness.lives(worker):
                    yield from self._repository.find_all(Filter(states=CLAIMED, worker=worker))

    def _take_suspects(self, end: float) -> Iterator[Operation]:
        while self._suspects and time.monotonic() <= end:
            yield self._suspects.popleft()

    def _let_go_if_abandoned(self, operation: Operation) -> bool:
        return self.is_abandoned(operation) and self.let_go_of(operation)

    def _let_go_of_unanswered(self) -> None:
        """Let go of what this process may have without knowing it: nobody runs it."""

        def let_go_of_it(one: tuple[str, float]) -> None:
            operation_id, since = one
            if self._process.has(operation_id):  # it is not known yet what has become of it
                return
            operation = self._store.get(operation_id)
            if operation is not None and operation.worker == self._process.worker:
                self.let_go_of(operation)
            if operation is not None or time.monotonic() - since > UNHEARD:
                self._process.unanswered.pop(operation_id, None)

        each(let_go_of_it, list(self._process.unanswered.items()))

    def is_abandoned(self, operation: Operation) -> bool:
        """Tell whether nobody runs an operation any more."""
        if operation.state not in CLAIMED or self._process.has(operation.id):
            return False
        if self._process.is_unanswered(operation):
            return True
        now = self._store.now()
        # While the store was away nobody could renew: those who live do so first.
        is_dead, is_steady = self._is_dead(operation), self._process.health.is_steady(now, STEADY)
        return (is_dead or is_steady) and is_abandoned(operation, now, is_dead=is_dead)

    def _is_dead(self, operation: Operation) -> bool:
        """Tell whether the process that runs an operation is known to be gone."""
        liveness, worker = self._process.liveness, operation.worker
        if liveness is None or worker is None:
            return False
        return not liveness.lives(worker)

    def let_go_of(self, operation: Operation) -> bool:
        """Release an operation that may be run again, and end another one."""
        # Nobody heard of it: who comes again under its key is to have the work done.
        drop = self._process.is_unheard_of(operation)
        change = partial(self._repository.change, fence=operation.fence, drop_dedupe=drop)
        left = change(operation.id, self._after_loss)
        if left is None:
            return False
        self._process.clear(left)
        self.has_released |= left.queue is not None and not left.is_terminal
        logger.warning(
            "operation %s lost its process and is %s", left.shown, left.reason or "to be run again"
        )
        return True

    def _after_loss(self, operation: Operation) -> Event | None:
        if not self.is_abandoned(operation):  # others have let it go, or renewed it, meanwhile
            return None
        if self._process.is_unheard_of(operation):
            return Ended(Reason.INTERRUPTED)  # nobody heard of it: its request went on without
        if self._process.is_unanswered(operation) and operation.queue is not None:
            return self._not_begun(operation)
        return self._by_loss(operation)

    def _by_loss(self, operation: Operation) -> Event:
        return after_loss(operation, Reason.INTERRUPTED, self._process.settings.max_attempts)

    # --- who waits for a process ---------------------------------------------------------------

    def take_up(self, most: int) -> int:
        """Run again here some of what was released; return how many.

        Args:
            most: How many at most.
        """
        may_take = self._is_ready and most > 0 and not self._ours.rests
        taken = self._take_ours(most) if may_take else 0
        if self._all is None and time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            self._all = self._repository.walk(Filter(states=_WAITING, queue=""))
        if self._all is not None:
            self._look_at(self._all)
        return taken

    def _look_at(self, walk: Walk) -> None:
        """End what has waited too long, whatever can be done about the others here."""
        try:
            each(self._may_take, self._in_turn(walk, lambda: True))
        finally:
            self._all = None if walk.is_over else walk

    def _take_ours(self, most: int) -> int:
        walk = self._ours.walk or self._begin_round()
        taken = 0

        def take(operation: Operation) -> None:
            nonlocal taken
            taken += self.take(operation)

        try:
            each(take, self._in_turn(walk, lambda: taken < most))
        finally:
            self._ours.end_turn(walk, taken, is_full=taken >= most)
        return taken

    def _begin_round(self) -> Walk:
        application = self._process.application.name
        which = Filter(states=_WAITING, queue="", application=application)
        walk = self._repository.walk(which)
        self._ours.begin(walk)
        return walk

    def _in_turn(self, walk: Walk, has_room: Callable[[], bool]) -> Iterator[Operation]:
        end = time.monotonic() + TURN
        while has_room() and not walk.is_over:
            if time.monotonic() > end:
                self.has_more = True
                return
            if (operation := walk.next()) is not None:
                yield operation

    @property
    def _is_ready(self) -> bool:
        is_ready = self.rerunner is not None and self.rerunner.is_ready
        return is_ready and not is_frozen_between_requests()

    def take(
        self, operation: Operation, request: Request | None = None, *, is_known: bool = False
    ) -> bool:
        """Run here what waits for a process of this application; False if it can't be now.

        Args:
            request: As the store has it; default: it is asked for.
            is_known: Whether the store has just been asked: it is likely to be so still.
        """
        rerunner = self.rerunner
        if not self._may_take(operation) or rerunner is None or not rerunner.is_ready:
            return False
        found = self._read(operation, request)
        return found is not None and self._run_again(rerunner, operation, *found, is_known=is_known)

    def _may_take(self, operation: Operation) -> bool:
        """Tell whether it may be run here; what has waited too long is ended."""
        # What is left of an earlier run here must be out of the way of the next one.
        if self._process.has(operation.id):
            return False
        return not self.end_if_in_vain(operation) and self._is_ours(operation)

    def end_if_in_vain(self, operation: Operation) -> bool:
        """End what has waited for longer than anybody waits; tell whether it has."""
        if not has_waited_in_vain(operation, self._store.now()):
            return False
        self._end(operation, Reason.EXPIRED_BEFORE_START)
        return True

    def _is_ours(self, operation: Operation) -> bool:
        """Tell whether this application is for sure the one whose handler is to be run."""
        application = self._process.application
        if not application.may_run(operation.application):
            return False
        if self._process.liveness is not None or application.is_sure_of(operation.code):
            return True
        # Of another version, it may be: some of its processes may still be there.
        if self._is_given_up(operation):
            self._end(operation, Reason.INTERRUPTED)
        return False

    def _is_given_up(self, operation: Operation) -> bool:
        """Tell whether nobody who could run it will come; what is in a queue may wait for days."""
        waited = self._store.now() - operation.updated
        return operation.queue is None and waited > KEY_AWAITED

    def _read(
        self, operation: Operation, stored: Request | None
    ) -> tuple[Request, IO[bytes]] | None:
        """Return what an operation is run from; without it, it has ended, or is left to others."""
        try:
            if (found := self.requests.read(operation, stored)) is not None:
                return found
        except StoreUnavailable:
            raise
        except StoreError as error:
            if operation.id not in self._puzzling:
                logger.error("operation %s can't be run again here: %s", operation.shown, error)
            is_for_others = isinstance(error, WrongKey | NewerRecord)
            if is_for_others and not self._is_given_up(operation):
                self._puzzling.add(operation.id)
                return None
        self._puzzling.discard(operation.id)
        self._end(operation, Reason.INTERRUPTED)
        return None

    def _run_again(
        self,
        rerunner: Rerunner,
        operation: Operation,
        request: Request,
        body: IO[bytes],
        *,
        is_known: bool,
    ) -> bool:
        # In flight before it is claimed, or this process's own recovery might let it go.
        timeout, owner = self._process.settings.timeout, self._process.settings.owner
        is_asked = owner is not None and may_be_owned(operation)
        running = RunningOperation(operation, None, timeout, is_asked=is_asked)
        if not self._process.running.add(running):
            body.close()
            return False
        begun = False
        try:
            is_claimed = self._claim(running, operation if is_known else None)
            begun = is_claimed and self._begin(rerunner, running, request, body)
            return begun
        except BaseException:
            self._process.note_unanswered(operation)
            raise
        finally:
            if not begun:
                self._process.running.drop(running)
                body.close()

    def _claim(self, running: RunningOperation, known: Operation | None) -> bool:
        operation = running.operation
        event = Claimed(self._process.worker, self._process.lease)
        change = partial(self._repository.change, fence=operation.fence, known=known)
        claimed = change(operation.id, event)
        if claimed is not None:
            running.operation = running.stored = claimed
        return claimed is not None

    def _begin(
        self, rerunner: Rerunner, running: RunningOperation, request: Request, body: IO[bytes]
    ) -> bool:
        operation = running.operation
        try:
            running.run = rerunner.rerun(operation, request, body)
        except RuntimeError as error:
            logger.warning("operation %s is not run here: %s", operation.shown, error)
            left = self._repository.change(operation.id, self._not_begun, fence=operation.fence)
            if left is not None:
                self._process.clear(left)
            return False
        level = logging.WARNING if operation.attempts > 1 else logging.INFO
        logger.log(level, "operation %s is run (%d)", operation.shown, operation.attempts)
        return True

    def _not_begun(self, operation: Operation) -> Event:
        """Say what becomes of one that could not be begun: it is none of its attempts."""
        age = self._store.now() - operation.created
        is_to_be_run = operation.state is State.RUNNING and age <= operation.retention
        return Released() if is_to_be_run else self._by_loss(operation)

    def _end(self, operation: Operation, reason: Reason) -> None:
        ended = self._repository.change(operation.id, Ended(reason), fence=operation.fence)
        if ended is not None:
            self._process.clear(ended)
            logger.warning("operation %s is not run again: %s", operation.shown, reason)
