"""Time, as a process sees it that may be frozen (SIGSTOP, a container) or whose machine may sleep.

A deadline that passes meanwhile says nothing about who was to answer: nobody could be heard.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

STRIDE = 1.0  # seconds: who looks at the time more often and finds that more passed was frozen
SLEPT = 1.0  # seconds between what both clocks say, from which on the machine has slept
LEAPS = 3  # that cost a deadline nothing: who never gets a turn must come to an end, too


class Moment(NamedTuple):
    """A moment by both clocks: the monotonic one stands still while the machine sleeps."""

    monotonic: float
    wall: float

    @classmethod
    def now(cls) -> Moment:
        """Return this moment."""
        return cls(time.monotonic(), time.time())

    @property
    def age(self) -> float:
        """Seconds since then, by the clock that says more."""
        now = Moment.now()
        return max(now.monotonic - self.monotonic, now.wall - self.wall)

    @property
    def has_slept(self) -> bool:
        """Whether the machine has slept since then, or the clock on the wall was set."""
        now = Moment.now()
        return abs((now.wall - self.wall) - (now.monotonic - self.monotonic)) > SLEPT


class Deadline:
    """An end in some seconds of being awake; who waits for it looks twice in a `STRIDE`.

    Args:
        seconds: How many.
        clock: Returns seconds.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], float] = lambda: time.monotonic()
    ) -> None:
        self._clock = clock
        self._left = seconds
        self._seen = clock()
        self._leaps = LEAPS

    @property
    def left(self) -> float:
        """Seconds until then; 0 or less when it is over."""
        now = self._clock()
        passed, self._seen = now - self._seen, now
        if passed > STRIDE and self._leaps:
            self._leaps -= 1
        else:
            self._left -= passed
        return self._left

    @property
    def step(self) -> float:
        """Seconds to wait until the next look; 0 when it is over."""
        return max(0.0, min(self.left, STRIDE / 2))
