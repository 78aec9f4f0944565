"""How the store does, as far as one process has seen, and what that costs its requests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from raincheck.engine.awake import Moment
from raincheck.engine.errands import Errands
from raincheck.engine.per_process import PerProcess
from raincheck.errors import StoreUnavailable

DOUBT = 5.0  # seconds for which a store that failed is taken to fail
GAP = 15.0  # seconds between answers, by the store's clock, that can't be accounted for


class StoreHealth:
    """Notices whether the store fails, and counts the requests that stay synchronous for it.

    Attributes:
        reads: Runs for clients what reads from the store.
        writes: The same for what writes: a store may be locked, or full, and still be read.
        last_failure: When the store failed last, by this process's clock.
    """

    def __init__(self) -> None:
        self.reads, self.writes = Errands(), Errands()
        self._refused_at: Moment | None = None
        self._failed_at: Moment | None = None
        self.last_failure = 0.0
        self._steady_since: float | None = None  # by the store's clock
        self._answered_at = 0.0  # the same
        self._staying_of = PerProcess(set[object])

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Notice whether the store fails."""
        try:
            yield
            self._failed_at = None
        except StoreUnavailable:
            self._note_failure()
            raise

    def _note_failure(self) -> None:
        self._failed_at, self.last_failure = Moment.now(), time.monotonic()
        self._steady_since = None

    @contextmanager
    def accepting(self) -> Iterator[None]:
        """Notice whether the store takes an operation."""
        try:
            with self.noticing():
                yield
            self._refused_at = None
        except StoreUnavailable:
            self.note_refusal()
            raise

    def note_refusal(self) -> None:
        """Take note that the store takes no operation now."""
        self._note_failure()
        self._refused_at = Moment.now()

    @property
    def takes_operations(self) -> bool:
        """Whether the store would take one now; after a while that has to be tried."""
        return not _is_recent(self._refused_at)

    @property
    def is_failing(self) -> bool:
        """Whether the store has just failed: each call might be waited for until it does, too."""
        return _is_recent(self._failed_at)

    def note_answer(self, now: float) -> None:
        """Take note that the store has answered; `now` is its clock's."""
        if self._steady_since is None or not self._continues(now):
            self._steady_since = now
        self._answered_at = now

    def is_steady(self, now: float, seconds: float) -> bool:
        """Tell whether the store has been seen to answer for so long, and by the same clock."""
        since = self._steady_since
        return since is not None and self._continues(now) and now - since >= seconds

    def _continues(self, now: float) -> bool:
        # Else this process was stopped, or another server with another clock has taken over.
        return abs(now - self._answered_at) <= GAP

    @property
    def staying(self) -> int:
        """How many requests of this process go on synchronously now."""
        return len(self._staying)

    @contextmanager
    def stay(self) -> Iterator[None]:
        """Count a request that goes on synchronously although it was to be deferred."""
        token = object()
        self._staying.add(token)
        try:
            yield
        finally:
            self._staying.discard(token)

    @property
    def _staying(self) -> set[object]:
        return self._staying_of.get()


def _is_recent(moment: Moment | None) -> bool:
    return moment is not None and moment.age <= DOUBT
