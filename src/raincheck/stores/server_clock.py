"""A server's time, told from this machine's monotonic clock; the same for every store with one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from raincheck.engine.awake import Moment
from raincheck.errors import StoreUnavailable

CLOCK_AGE = 10.0  # seconds after which the server's clock is looked at again
SLOW = 1.0  # seconds there and back after which half of it is no good guess: it is asked again


def measure(ask: Callable[[], float]) -> tuple[float, float]:
    """Return how long a server took to tell its time, and what that is ahead of ours, in seconds.

    Args:
        ask: Asks over an open connection, once: what was tried before, or the time it takes to get
            a connection, is no part of the way there and back.
    """
    first = _measure_once(ask)
    return first if first[0] <= SLOW else min(first, _measure_once(ask))


def _measure_once(ask: Callable[[], float]) -> tuple[float, float]:
    asked = time.monotonic()
    told = ask()
    answered = time.monotonic()
    return answered - asked, told - (asked + answered) / 2


class ServerClock:
    """Tells the server's time in one process, and asks again now and then.

    Args:
        ask: Asks the server, and returns what its clock is ahead of the monotonic one.
    """

    def __init__(self, ask: Callable[[], float]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._offset: float | None = None
        self._until = 0.0
        self._looked = Moment.now()

    def __call__(self) -> float:
        """Return seconds since the epoch.

        Raises:
            StoreUnavailable: The server has never said what time it is, or not since the machine
                slept, and does not now.
        """
        offset = self._offset
        if offset is not None and self._looked.has_slept:
            offset = None  # the monotonic clock has stood still
        if offset is None or (time.monotonic() > self._until and self._is_mine_to_ask()):
            offset = self._look(offset)
        return time.monotonic() + offset

    def _is_mine_to_ask(self) -> bool:
        """Let one thread ask; the others go on with what is known."""
        with self._lock:
            if time.monotonic() <= self._until:
                return False
            self._until = time.monotonic() + CLOCK_AGE
            return True

    def _look(self, known: float | None) -> float:
        looked = Moment.now()
        try:
            offset = self._ask()
        except StoreUnavailable:
            if known is None:
                raise
            return known  # still good: clocks drift by microseconds in a second
        self._offset, self._looked = offset, looked
        self._until = time.monotonic() + CLOCK_AGE
        return offset
