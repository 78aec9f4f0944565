"""Who waits for a budget to run out: one armed timer for all who wait equally long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Awaits(Protocol):
    """Whoever waits for its budget to run out."""

    def budget_is_over(self) -> None: ...


class Budget:
    """All who wait for the same number of seconds, in order: one armed timer serves them all."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self.waiting: dict[Awaits, float] = {}
        self.is_armed = False
        self._clock = clock

    def release(self) -> float | None:
        """Tell everybody whose time has come; return when the next one's comes."""
        now = self._clock()
        while self.waiting:
            who, since = next(iter(self.waiting.items()))
            if since + self.seconds > now:
                return since + self.seconds
            del self.waiting[who]
            who.budget_is_over()
        return None
