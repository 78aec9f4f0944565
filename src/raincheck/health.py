"""How the store does, as far as one process has seen, and what that costs its requests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from raincheck.errors import StoreUnavailable

DOUBT = 5.0  # seconds for which a store that took no operation is taken to take none


class Health:
    """Notices whether the store fails, and counts the requests that stay synchronous for it."""

    def __init__(self) -> None:
        self._refused_at: float | None = None  # by this process's clock
        self._steady_since: float | None = None  # by the store's clock
        self._staying_of: dict[int, set[object]] = {}  # by process: a fork has none of them

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Notice if the store fails."""
        try:
            yield
        except StoreUnavailable:
            self._steady_since = None
            raise

    @contextmanager
    def accepting(self) -> Iterator[None]:
        """Notice whether the store takes an operation."""
        try:
            with self.noticing():
                yield
            self._refused_at = None
        except StoreUnavailable:
            self._refused_at = time.monotonic()
            raise

    @property
    def takes_operations(self) -> bool:
        """Whether the store would take one now; after a while that has to be tried."""
        return self._refused_at is None or time.monotonic() - self._refused_at > DOUBT

    def note_answer(self, now: float) -> None:
        """Take note that the store has answered; `now` is its clock's."""
        if self._steady_since is None:
            self._steady_since = now

    def is_steady(self, now: float, seconds: float) -> bool:
        """Tell whether the store has been seen to answer for so long."""
        return self._steady_since is not None and now - self._steady_since >= seconds

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
        return self._staying_of.setdefault(os.getpid(), set())
