"""Leases of this process: renewed while handlers run, with their progress; and ends in time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import takewhile

from raincheck.engine.awake import Moment
from raincheck.engine.outbox import TURN
from raincheck.engine.process import Process
from raincheck.engine.running import RunningOperation, each
from raincheck.operations.operation import Operation, Reason, State
from raincheck.operations.store import Filter
from raincheck.operations.transitions import Renewed

logger = logging.getLogger("raincheck")

LATE = 8.0  # seconds after which a beat that is due each second is late: this process was frozen


class Leases:
    """Keeps the leases of the operations that run in one process, once a beat.

    Args:
        cancel: Asks for an operation to be stopped.
    """

    def __init__(self, process: Process, cancel: Callable[[str], object]) -> None:
        self._process = process
        self._store = process.store
        self._repository = process.repository
        self._running = process.running
        self._cancel = cancel
        self._beaten: Moment | None = None
        self._woken = 0.0  # when this process was frozen last, by the monotonic clock

    def notice_freezes(self) -> None:
        """Take note of a freeze, within which nothing could be renewed, and nobody heard."""
        if self._beaten is not None and self._beaten.age > LATE:
            self._woken = time.monotonic()
        self._beaten = Moment.now()

    def renew_all(self) -> None:
        """Renew leases, and write progress."""
        # A store that was away may have come back without one; a lease may have run out in a sleep.
        due = max(self._deaf_until, time.monotonic() - self._process.renewal)
        running = self._running.all()  # of thousands few have news, or are due
        each(self._renew, [f for f in running if f.renewed < due or f.has_news])
        end = time.monotonic() + TURN
        waiting = self._process.outbox.ended()
        each(self._renew_waiting, takewhile(lambda _: time.monotonic() < end, waiting))

    def heed_cancels(self) -> None:
        """Have handlers stop whose operations somebody has cancelled in another process."""
        if not len(self._running):
            return
        wanted = Filter(states=frozenset({State.CANCELLING}), worker=self._process.worker)
        for operation in self._repository.find_all(wanted):
            if (running := self._running.get(operation.id)) is not None:
                running.cancel()

    def give_up_stranded(self) -> None:
        """End the operations of handlers that will never go on; who may run them again does."""
        for running in self._running.all():
            if running.run is not None and running.run.is_stranded:
                if not running.is_over:
                    logger.warning("operation %s has lost its event loop", running.operation.shown)
                running.run.give_up(Reason.SHUTDOWN)

    def stop_late(self) -> None:
        """End the operations of handlers that have had their time."""
        for running in self._running.all():
            if running.is_late and running.run is not None and not running.is_over:
                running.lingers = True
                running.run.give_up(Reason.TIMEOUT)

    def stop_unwanted(self) -> None:
        """Cancel the operations that nobody asks for any more."""
        patience = self._process.settings.abandon_after
        if patience is not None:
            for running in self._running.all():
                self._stop_if_unwanted(running, patience)

    def _stop_if_unwanted(self, running: RunningOperation, patience: float) -> None:
        if running.is_attended or time.monotonic() - running.looked < patience / 4:
            return
        running.looked = time.monotonic()
        stored = self._store.get(running.operation.id)
        if stored is None or stored.state is not State.RUNNING or stored.webhook is not None:
            return
        # Who asked while this process was frozen, or its store away, could not be heard.
        heard_since = max(running.begun, self._deaf_until)
        waited = min(time.monotonic() - heard_since, self._store.now() - stored.last_asked)
        if waited > patience:
            logger.warning("nobody asks for operation %s: it is cancelled", stored.shown)
            self._cancel(stored.id)

    @property
    def _deaf_until(self) -> float:
        return max(self._woken, self._process.health.last_failure)

    def _renew(self, running: RunningOperation) -> None:
        """Write progress if there is any, and a new lease."""
        if running.is_over or running.run is None:
            return
        news, owned = running.news, running.owned
        operation, renewed = running.operation, Renewed(self._process.lease, news, owned)
        changed = self._repository.change(operation.id, renewed, fence=operation.fence)
        if changed is None:
            self.save(running)
        elif changed.state is State.CANCELLING:  # by an older raincheck, it may be
            running.cancel()
        running.stored = changed
        running.renewed = time.monotonic()
        if running.owned is owned:
            running.is_owner_written = True
        if running.news is news:
            running.news = None

    def _renew_waiting(self, operation: Operation) -> None:
        """Renew the lease of one that has ended: to hand over what it left may take longer."""
        lease, renewal = self._process.lease, self._process.renewal

        def renew(stored: Operation) -> Renewed | None:
            left = (stored.lease or 0.0) - self._store.now()
            return Renewed(lease) if left < lease - renewal else None

        self._repository.change(operation.id, renew, fence=operation.fence)

    def save(self, running: RunningOperation) -> None:
        """Record it anew if the store has lost it; if others have ended it, have it stop."""
        with running.lock:  # or its end would not know of the loss
            if running.is_over:
                return
            stored = self._store.get(running.operation.id)
            if stored is None:
                running.is_doubtful = True  # first: the answer of what follows may be lost
                self._repository.record_again(running.operation, self._process.lease)
                return
        if stored.is_terminal or stored.fence != running.operation.fence:
            running.cancel()
