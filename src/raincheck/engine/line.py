"""What waits in one queue, as a worker goes through it: a page at a time, kept for its next look.

Other workers go through the same line. Who finds that others have begun with what is next goes on
at another place, so that each of them has a part of the page to itself.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from raincheck.engine.repository import Walk

PAGE = 32  # operations: what others take meanwhile has been read in vain
KEPT = 1.0  # seconds: what has come back into the queue is at the head of the line
MISSES = 4  # operations that others have begun with; after so many there is a new page
ROUNDS = 8  # in one look, each of which begins at the head
_CHANCE = random.SystemRandom()  # not the shared generator, which an application may have seeded


class Line:
    """The line of one queue.

    Args:
        walks: Begins to go through all that waits and is due, in pages of so many.
    """

    def __init__(self, walks: Callable[[int], Iterator[Walk]]) -> None:
        self._walks = walks
        self._under_way: Iterator[Walk] = iter(())
        self._walk: Walk | None = None
        self._until = 0.0
        self._misses = 0

    def each(self) -> Iterator[str]:
        """Yield the ids of what waits, where the last look has stopped, and then from the head."""
        if self._until > time.monotonic():
            yield from self._rest()
        for _ in range(ROUNDS):
            self._under_way, self._walk = self._walks(PAGE), None
            self._until, self._misses = time.monotonic() + KEPT, 0
            yield from self._rest()
            if self._misses < MISSES:
                return

    def _rest(self) -> Iterator[str]:
        while self._misses < MISSES:
            self._walk = self._walk or next(self._under_way, None)
            if self._walk is None:
                return
            if (operation := self._walk.next()) is not None:
                yield operation.id
            else:
                self._walk = None

    def miss(self) -> None:
        """Take note that somebody else has begun with the one that was yielded last."""
        self._misses += 1
        if self._walk is not None:
            self._walk.turn(_CHANCE.random())
