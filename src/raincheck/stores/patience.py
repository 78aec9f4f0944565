"""How often a server is asked again, and when it is left alone; the same for every store with one.

A call is repeated a few times, as connections break and servers restart. After that the server is
taken to be down: calls then fail at once, but for one each moment that tries whether it is back.
So a server that hangs costs one thread some seconds, and not every thread. What failed because this
process was frozen has not failed: it is asked once more before anybody is told so.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from raincheck.engine.awake import Moment
from raincheck.errors import StoreUnavailable

TIMEOUT = 5.0  # seconds to wait for an answer
# The same, at most: who waits longer renews no lease in time when the server is back.
LONGEST_TIMEOUT = 10.0
PAUSES = (0.05, 0.2)  # seconds before the second and the third attempt, up to twice as long
ENOUGH = 3.0  # seconds after which no further attempt is begun
PROBE = 0.5  # seconds between attempts at a server that is down
# Seconds after which nothing is known any more of a server that was down: a process that works asks
# at least once a second, so this one was frozen, or had nothing to ask.
STALE = 3.0
SLACK = 1.0  # seconds that a machine under load may be late
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
    """What one process knows about whether a server answers.

    Args:
        longest: Seconds that an attempt takes at most in a process that is awake. One that has
            taken longer when it fails says nothing about the server.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._failure: StoreUnavailable | None = None
        self._failed = Moment.now()
        self._probing = threading.Lock()
        self._is_anew = False  # whether who probes now is the first since long

    def call(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns; it may be called several times.

        Raises:
            StoreUnavailable: It raised that each time, or would now.
        """
        failure = self._failure
        if failure is None:
            return self._attempt(work, PAUSES)
        if self._failed.age >= PROBE:
            if self._probing.acquire(blocking=False):
                return self._probe(work)
            if self._is_anew and self._is_back():
                return self._attempt(work, PAUSES)
        raise StoreUnavailable(str(failure)) from failure

    def _probe(self, work: Callable[[], _T]) -> _T:
        try:
            self._is_anew = self._failed.age > STALE
            return self._attempt(work, PAUSES if self._is_anew else ())
        finally:
            self._probing.release()

    def _is_back(self) -> bool:
        """Wait for who probes: what is known is too old to go by."""
        if self._probing.acquire(timeout=self._longest):
            self._probing.release()
        return self._failure is None

    def _attempt(self, work: Callable[[], _T], pauses: tuple[float, ...]) -> _T:
        left, enough, was_frozen = list(pauses), time.monotonic() + ENOUGH, False
        while True:
            begun = Moment.now()
            try:
                result = work()
            except StoreUnavailable as error:
                if begun.age > self._longest and not was_frozen:
                    was_frozen, enough = True, time.monotonic() + ENOUGH
                    continue
                if not left or time.monotonic() > enough:
                    self._failure, self._failed = error, Moment.now()
                    raise
                time.sleep(left.pop(0) * _JITTER.uniform(1, 2))
            else:
                self._failure = None
                return result
