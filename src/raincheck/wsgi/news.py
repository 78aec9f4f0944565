"""What two threads of a request tell each other.

A thread that is woken for nothing costs more than a fast handler: it takes the interpreter's lock
from the one that has work, looks, and gives it back. So who has news looks for the others whether
that is what they wait for, and wakes only those.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

IsThere = Callable[[], object]


class News:
    """Wakes threads when what they wait for is there.

    Attributes:
        lock: Held where what they wait for changes; reentrant, as a garbage collector may tell.
    """

    __slots__ = ("_waiters", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._waiters: list[tuple[IsThere, threading.Lock]] = []

    def tell(self) -> None:
        """Wake those who have waited for what is there now; the lock is held."""
        if self._waiters:
            for waiter in tuple(self._waiters):
                is_there, asleep = waiter
                if is_there() and self._take_out(waiter):
                    asleep.release()

    def tell_all(self) -> None:
        """Do so while the lock is not held."""
        with self.lock:
            self.tell()

    def wait_for(self, is_there: IsThere, seconds: float | None = None) -> bool:
        """Wait for what is told, and stays; the lock is not held.

        Args:
            is_there: Tells whether it has come; called by any thread that holds the lock.
            seconds: How long at most; None: for ever.

        Returns:
            Whether it has come.
        """
        with self.lock:
            if is_there():
                return True
            asleep = threading.Lock()
            asleep.acquire()
            waiter = (is_there, asleep)
            self._waiters.append(waiter)
        is_woken = False
        try:
            is_woken = asleep.acquire(True, -1 if seconds is None else max(0.0, seconds))
        finally:
            if not is_woken:
                with self.lock:
                    is_woken = not self._take_out(waiter) or bool(is_there())
        return is_woken

    def _take_out(self, waiter: tuple[IsThere, threading.Lock]) -> bool:
        try:
            self._waiters.remove(waiter)
        except ValueError:  # somebody else has
            return False
        return True
