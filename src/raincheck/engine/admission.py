"""What a process takes upon itself: looked at before anything runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from raincheck.config.limits import Limits
from raincheck.engine.repository import Repository
from raincheck.engine.running import RunningOperation, RunningOperations
from raincheck.errors import Overloaded
from raincheck.http.spool import Spooled
from raincheck.operations.operation import IN_FLIGHT
from raincheck.operations.store import Filter

COUNTED = 1.0  # seconds for which what was counted in the store is believed
RECOUNTED = 0.1  # the same, where it would mean to refuse
OWNERS_REMEMBERED = 10_000


class Admission:
    """Tells whether one more operation may be begun.

    What other processes have begun is counted in the store, about once a second: a burst that
    comes to several of them at once may exceed a limit by as much as it brings in that time.

    Args:
        clock: This process's, in seconds.
        application: Returns the name of this one: principals of others may be called the same.
    """

    def __init__(
        self,
        limits: Limits,
        repository: Repository,
        running: RunningOperations,
        clock: Callable[[], float] = lambda: time.monotonic(),
        *,
        application: Callable[[], str],
    ) -> None:
        self.spooled = Spooled(limits.spooled)
        self._limits = limits
        self._repository = repository
        self._running = running
        self._application = application
        self._clock = clock
        self._counts: dict[str | None, tuple[float, int]] = {}

    @property
    def is_full(self) -> bool:
        """Whether as many operations are in flight in this process as may be."""
        return len(self._running) >= self._limits.operations

    def add(self, running: RunningOperation) -> None:
        """Take note of an operation in flight.

        Raises:
            Overloaded: Others that came in the same moment have taken its place.
        """
        self._running.add(running)
        if not self._running.is_within(running, self._limits.operations):
            self._running.drop(running)
            raise Overloaded("operations", self._limits.operations)

    def check(self, owner: str | None, *, runs_here: bool = True) -> None:
        """Look at all limits.

        Args:
            owner: Whose the operation is to be.
            runs_here: Whether it is one more for this process.

        Raises:
            Overloaded: A limit is reached.
            StoreError: The store can't be asked.
        """
        if runs_here and self.is_full:
            raise Overloaded("operations", self._limits.operations)
        if owner is not None:
            self.check_owner(owner)
        self._check("operations_in_store", self._limits.operations_in_store, None)

    def check_owner(self, owner: str) -> None:
        """Look at the limit of one owner.

        Raises:
            Overloaded: It is reached.
            StoreError: The store can't be asked.
        """
        self._check("operations_per_owner", self._limits.operations_per_owner, owner)

    def _check(self, name: str, limit: int | None, owner: str | None) -> None:
        if limit is None:
            return
        moment, count = self._counts.get(owner, (-COUNTED, 0))
        believed = COUNTED if count < limit else RECOUNTED
        if self._clock() - moment >= believed:
            moment, count = self._clock(), self._count(owner, limit)
            if len(self._counts) >= OWNERS_REMEMBERED:
                self._counts.clear()
            self._counts[owner] = moment, count
        if count >= limit:
            raise Overloaded(name, limit)

    def count(self, owner: str | None) -> None:
        """Take note of one more operation."""
        for whose in {owner, None}:
            if (counted := self._counts.get(whose)) is not None:
                moment, count = counted
                self._counts[whose] = moment, count + 1

    def _count(self, owner: str | None, limit: int) -> int:
        application = None if owner is None else self._application()
        which = Filter(states=IN_FLIGHT, owner=owner, application=application)
        return self._repository.count(which, limit)
