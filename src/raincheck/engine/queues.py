"""Operations that wait for workers: handed to them, told to them again, and taken up here.

What waits in a queue is `accepted`, has no worker, and its `lease` is the moment from which it may
be looked at: by workers, who take it up, or by who tells them again. A message that tells of it is
a doorbell and nothing more: lost, late or twice, it changes nothing.
"""

from __future__ import annotations

import logging
import math
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from functools import partial

from raincheck.config.application import has_own_store, is_whole, started
from raincheck.engine.line import Line
from raincheck.engine.process import Process
from raincheck.engine.recovery import Recovery
from raincheck.engine.repository import Walk
from raincheck.engine.rerunner import Rerunner
from raincheck.engine.running import each
from raincheck.engine.telling import Telling, in_vain_or_not
from raincheck.engine.unsettled import SETTLED_SECONDS, Unsettled
from raincheck.errors import OperationCancelled, StoreError
from raincheck.http.messages import Request
from raincheck.operations.operation import (
    LONGEST_WAIT_SECONDS,
    TERMINAL,
    Operation,
    State,
    is_due,
)
from raincheck.operations.store import Filter
from raincheck.operations.transitions import Event, HandedOver, Told

logger = logging.getLogger("raincheck")

# Seconds until workers are told again, at least: as long again as it has waited, so that a queue
# that is long is not made longer by what tells of it.
AGAIN = 60.0
LOOK = 15.0  # seconds between looks for what is to be told again
TURN = 1.0  # seconds of each: there are leases to renew, too
REST = 50.0  # times as long as a look has taken, if that is longer
MEND = 300.0  # seconds between looks for what an older raincheck has released
_WAITING = frozenset({State.ACCEPTED})
PAGE = 100
REFUSED = (
    "operation %s stays in its queue: this process can't run it now. Is a middleware of the same "
    "`application` around another application here, is there no key for its request, or is the "
    "store shared by machines, the source code not the same, and the option `application` not set?"
)
STRANGERS = (
    "operations wait in queue %r for %s, and this is %r: if it is the same application, give it a "
    "name with the option `application`"
)
HIDDEN = (
    "handlers are left to workers, but no store is named, and the default one is that of what was "
    "started, %r: workers that are started by another command look into another one. Give "
    "RAINCHECK_STORE, such as sqlite:///srv/operations.db, or the option `store` to both"
)
TWIN = "this worker runs operations of %r, too: the same application, started by another server"
_KNOWN: weakref.WeakSet[Queues] = weakref.WeakSet()


class Take(Enum):
    """What becomes of an operation that a worker was told of."""

    BEGUN = "its handler runs here now"
    OVER = "it has ended, or there is none"
    ELSEWHERE = "another worker runs it"
    EARLY = "it is not due yet"
    REFUSED = "it can't be run here now; it stays in its queue"


class Queues:
    """What one process does for the operations of one application that wait in queues.

    Attributes:
        served: Names of those that this process looks into; None: it is no worker, and runs again
            what other processes have lost.
        running: What runs in this process.
        unsettled: What may have been left to workers, and what its client is not told yet.
    """

    def __init__(self, process: Process, recovery: Recovery) -> None:
        self.served: frozenset[str] | None = None
        self._process = process
        self._store = process.store
        self._recovery = recovery
        self._telling = Telling(process.settings.workers or {})
        self._looks_at = -math.inf
        self._said = set[str]()
        self._lines = dict[str, Line]()
        self._has_own = False
        self.unsettled = Unsettled(process)
        self._mended = -math.inf
        self._all: Iterator[Operation] | None = None  # a turn goes on where the last stopped
        self.running = process.running
        _KNOWN.add(self)
        if process.settings.runners or process.settings.workers:
            self._warn_if_hidden(is_told=bool(process.settings.workers))

    @property
    def is_around(self) -> bool:
        """Whether they are those of a middleware, and not of a program."""
        return self._process.application.is_around

    @property
    def application(self) -> str:
        """The name of the application whose operations may be run here."""
        return self._process.application.name

    @property
    def has_own_store(self) -> bool:
        """Whether operations are where nothing that is started otherwise looks."""
        return has_own_store(self._process.settings.store)

    @property
    def rerunner(self) -> Rerunner | None:
        """Who can run a captured request here; None: nobody."""
        return self._recovery.rerunner

    def _warn_if_hidden(self, *, is_told: bool) -> None:
        """Say, once, that workers would look for operations elsewhere.

        Args:
            is_told: Whether they are told, by what an engine starts; else they look themselves.
        """
        named = started(sys.argv)
        if self.has_own_store and (is_told or not is_whole(named)):
            self._say_once(HIDDEN, named)

    # --- handing over --------------------------------------------------------------------------

    def due(
        self, queue: str, now: float, not_before: float | None, *, is_promised: bool = True
    ) -> float:
        """Return the moment from which an operation that begins to wait may be looked at.

        Where workers are told of it, that is when they are to be told again.

        Args:
            is_promised: Whether its client knows of it; else it is to be let out.
        """
        is_told = queue in self._telling.queues
        self._warn_if_hidden(is_told=is_told)
        pause = AGAIN if is_told else 0.0 if is_promised else SETTLED_SECONDS
        return max(now + pause, not_before or 0.0)

    def let_out(self, operation: Operation) -> None:
        """Let workers begin with what was recorded, as its client is promised it now.

        Raises:
            WorkersUnavailable: They could not be told: its client is to be refused.
        """
        if operation.queue in self._telling.queues:
            self.tell(operation)
        elif operation.lease != operation.not_before:
            self.unsettled.let_out(operation)

    def join(self, operation: Operation) -> None:
        """Let workers begin with what another request has become; see `Unsettled.promise`."""
        if (promised := self.unsettled.promise(operation)) is not None and promised.queue:
            with in_vain_or_not(promised):
                self.let_out(promised)

    def tell(self, operation: Operation) -> None:
        """Tell workers of an operation that they may run now.

        Raises:
            WorkersUnavailable: They could not be told; `refuse` it, unless somebody was promised.
        """
        is_early = False
        with suppress(StoreError):  # what tells of it too early changes nothing
            is_early = not is_due(operation, self._store.now())
        if not is_early:
            self._telling.tell(operation)

    def hand_over(
        self, operation: Operation, queue: str, not_before: float | None
    ) -> Operation | None:
        """Let workers of a queue run what this process was to run, and has not begun.

        Returns:
            None if they could not run it: its request was not kept.

        Raises:
            OperationCancelled: It has ended, is to end, or another process has it.
            StoreError: The store can't be asked, and this must not wait until it can.
        """
        hand_over = partial(self._hand_over, operation, queue, not_before)
        left = self.running.outlast(operation, hand_over)
        if left is not None:
            self.running.drop(self.running.of(operation))
            with in_vain_or_not(left):
                self.tell(left)
        return left

    def _hand_over(
        self, operation: Operation, queue: str, not_before: float | None
    ) -> Operation | None:
        due = self.due(queue, self._store.now(), not_before)
        running = self.running.of(operation)
        # While it is nobody's, workers ask again.
        owned = running.owned if running is not None and running.operation.owner else None
        handed = HandedOver(queue, due, not_before, owned)

        def hand_over(stored: Operation) -> Event | None:
            return handed if stored.captured else None

        left = self._process.repository.change(operation.id, hand_over, fence=operation.fence)
        return left or self._left_before(operation, queue)

    def _left_before(self, operation: Operation, queue: str) -> Operation | None:
        """Return what was handed over although the answer was lost; None if it is still here."""
        stored = self._store.get(operation.id)
        if stored is None or stored.queue == queue:
            return stored
        if stored.state is not State.RUNNING or stored.fence != operation.fence:
            raise OperationCancelled("the operation is over here before its handler was called")
        return None

    # --- telling again -------------------------------------------------------------------------

    def look(self) -> None:
        """Tell workers again of what waits too long, and end what has waited in vain."""
        begin = time.monotonic()
        if begin < self._looks_at and not (self._recovery.has_released or self.unsettled):
            return
        self._recovery.has_released = False
        self._looks_at = begin + LOOK
        with self._process.health.noticing():
            end, now = time.monotonic() + TURN, self._store.now()
            self.unsettled.settle()
            patience = max(self._process.settings.retention, LONGEST_WAIT_SECONDS)
            stale = Filter(states=_WAITING, lease_before=now - patience)
            each(self._recovery.end_if_in_vain, self._find(stale, end))
            for queue in sorted(self._telling.queues):
                each(self._tell_again, self._find(self._waiting(queue, now), end))
            self._mend(end)
        # Some stores have to look at all that waits, and there may be much that is not due.
        self._looks_at = max(self._looks_at, begin + REST * (time.monotonic() - begin))

    def _mend(self, end: float) -> None:
        """Have found again what an older raincheck has released: that leaves it no lease."""
        names = (self.served or frozenset()) | self._telling.queues
        if self._all is None and (not names or time.monotonic() - self._mended < MEND):
            return
        self._mended = time.monotonic()
        self._all = self._all or self._find_all_waiting(names)
        for operation in self._all:
            if operation.lease is None:
                told = Told(max(self._store.now(), operation.not_before or 0.0))
                self._process.repository.change(operation.id, told, fence=operation.fence)
            if time.monotonic() > end:
                return
        self._all = None

    def _find_all_waiting(self, names: frozenset[str]) -> Iterator[Operation]:
        name = self._process.application.name
        for queue in sorted(names):
            which = Filter(states=_WAITING, queue=queue, application=name)
            yield from self._process.repository.find_all(which)

    def _waiting(self, queue: str, now: float, name: str | None = None) -> Filter:
        name = name or self._process.application.name
        return Filter(states=_WAITING, queue=queue, application=name, lease_before=now)

    def _find(self, which: Filter, end: float) -> Iterator[Operation]:
        for operation in self._process.repository.find_all(which):
            if time.monotonic() > end:
                return
            yield operation

    def _tell_again(self, operation: Operation) -> None:
        now = self._store.now()
        if self._recovery.end_if_in_vain(operation) or not is_due(operation, now):
            return
        waited = now - max(operation.updated, operation.not_before or 0.0)
        told = Told(now + max(AGAIN, waited))

        def tell(stored: Operation) -> Event | None:
            is_same = stored.lease == operation.lease and stored.queue == operation.queue
            return told if is_same else None  # else another process has told them

        if (again := self._process.repository.change(operation.id, tell)) is not None:
            with in_vain_or_not(again):
                self.tell(again)

    # --- taking up -----------------------------------------------------------------------------

    def take_due(self, most: int) -> list[str]:
        """Begin here what waits in the queues that this process serves; return the ids.

        Args:
            most: How many at most.
        """
        begun: list[str] = []
        for queue in sorted(self.served or ()):
            line = self._lines.setdefault(queue, Line(partial(self._walks, queue)))
            waiting = line.each()
            while len(begun) < most and (operation_id := next(waiting, None)) is not None:
                # As it is now: other workers have begun with the same page.
                taken = self.take(operation_id)
                if taken is Take.BEGUN:
                    begun.append(operation_id)
                elif taken in (Take.OVER, Take.ELSEWHERE):
                    line.miss()
        return begun

    def _walks(self, queue: str, page: int) -> Iterator[Walk]:
        for name in self._process.application.names:
            which = self._waiting(queue, self._store.now(), name)
            yield self._process.repository.walk(which, page)

    def may_have_twins(self) -> bool:
        """Whether what waits may be this application's under another name, that is not known."""
        application = self._process.application
        return not self._has_own and len(application.names) == 1 and not application.is_told

    def look_for_strangers(self) -> bool:
        """Look for what waits in the queues that this process serves, but not under its name.

        Its application may be called otherwise here only because it was started otherwise. If it is
        the only one that is meant, its operations are run; else what waits is said, once.

        Returns:
            Whether there is more to be run now.
        """
        application, now = self._process.application, self._store.now()
        for queue in sorted(self.served or ()):
            due = Filter(states=_WAITING, queue=queue, lease_before=now)
            page, _ = self._store.find(due, limit=PAGE)
            found = {str(each.application_name) for each in page}
            theirs = sorted(found.difference(application.names))
            if self.may_have_twins() and self._adopt(page):
                return True
            if theirs:
                self._say_once(STRANGERS, queue, ", ".join(map(repr, theirs)), application.name)
        return False

    def _adopt(self, page: list[Operation]) -> bool:
        """Take what some of these are of for this application, if no other one can be meant."""
        application = self._process.application
        found = {(str(each.application_name), each.code) for each in page}
        theirs = {name for name, code in found if application.may_be_called(name, code)}
        twins = sorted(theirs.difference(application.names))
        if len(twins) != 1:
            return False
        own, _ = self._store.find(Filter(application=application.name), limit=1)
        self._has_own = bool(own)  # then it has servers that are started as it is
        if own:
            return False
        application.adopt(twins[0])
        logger.info(TWIN, twins[0])
        return True

    def _say_once(self, text: str, *arguments: object) -> None:
        if text not in self._said:
            self._said.add(text)
            logger.warning(text, *arguments)

    def take(self, operation_id: str) -> Take:
        """Begin here the operation of an id that this process was told of."""
        found = self._recovery.requests.fetch(operation_id)
        if found is None or found[0].state in TERMINAL:
            return Take.OVER
        if found[0].state is not State.ACCEPTED:
            return Take.ELSEWHERE
        return self._take(*found)

    def state_of(self, operation_id: str) -> State | None:
        """Return where an operation stands; None: there is none."""
        operation = self._store.get(operation_id)
        return None if operation is None else operation.state

    def _take(self, operation: Operation, request: Request | None) -> Take:
        if not is_due(operation, self._store.now()):
            return Take.EARLY
        self._process.application.come_in_with(operation.application)
        if self._recovery.take(operation, request, is_known=True):
            return Take.BEGUN
        stored = self._store.get(operation.id)
        if stored is None or stored.state in TERMINAL:
            return Take.OVER
        if stored.state is not State.ACCEPTED:
            return Take.ELSEWHERE
        self._say_once(REFUSED, operation.shown)
        return Take.REFUSED


def queues_here() -> list[Queues]:
    """Return those of this process, one for each middleware."""
    # What a program claims (`runners.operations`), nobody else here would run.
    return [queues for queues in list(_KNOWN) if queues.is_around]
