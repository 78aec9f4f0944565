"""How often a server is asked again, and when it is left alone; the same for every store with one.

A call is repeated a few times, as connections break and servers restart. After that the server is
taken to be down: calls then fail at once, but for one each moment that tries whether it is back.
So a server that hangs costs one thread some seconds, and not every thread.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from raincheck.errors import StoreUnavailable

TIMEOUT = 5.0  # seconds to wait for an answer
# The same, at most: who waits longer renews no lease in time when the server is back.
LONGEST_TIMEOUT = 10.0
PAUSES = (0.05, 0.2)  # seconds before the second and the third attempt, up to twice as long
ENOUGH = 3.0  # seconds after which no further attempt is begun
PROBE = 0.5  # seconds between attempts at a server that is down
_JITTER = random.SystemRandom()  # not the shared generator, which an application may have seeded

_T = TypeVar("_T")


def to_timeout(text: str) -> float | None:
    """Read the seconds that an answer may take from a URL; None if they are none."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds <= LONGEST_TIMEOUT else None


class Patience:
    """What one process knows about whether a server answers."""

    def __init__(self) -> None:
        self._failure: StoreUnavailable | None = None
        self._next_probe = 0.0
        self._probing = threading.Lock()

    def call(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns; it may be called several times.

        Raises:
            StoreUnavailable: It raised that each time, or would now.
        """
        if self._failure is None:
            return self._attempt(work, PAUSES)
        if time.monotonic() < self._next_probe or not self._probing.acquire(blocking=False):
            raise StoreUnavailable(str(self._failure)) from self._failure
        try:
            return self._attempt(work, ())
        finally:
            self._probing.release()

    def _attempt(self, work: Callable[[], _T], pauses: tuple[float, ...]) -> _T:
        enough = time.monotonic() + ENOUGH
        for pause in (*pauses, None):
            try:
                result = work()
            except StoreUnavailable as error:
                if pause is None or time.monotonic() > enough:
                    self._failure = error
                    self._next_probe = time.monotonic() + PROBE
                    raise
                time.sleep(pause * _JITTER.uniform(1, 2))
            else:
                self._failure = None
                return result
        raise AssertionError("the last attempt returns or raises")
