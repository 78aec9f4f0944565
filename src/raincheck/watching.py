"""Waking those who wait for an operation: one thread and one watch of the store per process.

What a watch yields are hints. So whoever waits is woken as soon as the watch listens, and from then
on at least every few seconds, heard or not; each time it reads the operation for itself. No event
loop here: who waits says how it is woken.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from raincheck.errors import StoreError

logger = logging.getLogger("raincheck")

REREAD = 5.0  # seconds after which whoever waits is woken although nothing was heard
TICK = 1.0  # seconds between looks around while nothing is heard
EARLY = 0.9  # of a tick: a None that comes sooner says that something was missed
LINGER = 5.0  # seconds that the thread goes on when the last one has gone
PAUSES = (0.5, 10.0)  # seconds before a watch that has failed is begun again: at first, at most

Watch = Callable[[float], Generator[str | None, None, None]]


def server_is_stopping() -> bool:
    """Tell whether the server of this process was told to stop, as far as that can be seen.

    uvicorn and gunicorn wait for all clients before they let anybody know. A client that waits for
    an operation would use up the time that the operations were given to end.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True or getattr(server, "alive", True) is False


class Waiter:
    """Somebody who waits for an operation.

    Args:
        wake: Called from any thread when the operation may have changed; must not block.

    Attributes:
        is_dismissed: Whether nobody is to wait any longer.
    """

    __slots__ = ("is_dismissed", "operation_id", "wake")

    def __init__(self, operation_id: str, wake: Callable[[], object]) -> None:
        self.operation_id = operation_id
        self.wake = wake
        self.is_dismissed = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a watcher needs of its process: a clock and a sleep in seconds, and its end's sign."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = lambda seconds: time.sleep(seconds)  # gevent patches it
    is_stopping: Callable[[], bool] = server_is_stopping


class Watcher:
    """Wakes waiters; its thread starts with the first of them, and again in a forked process.

    Args:
        watch: A store's method of that name.
    """

    def __init__(self, watch: Watch, around: Surroundings | None = None) -> None:
        self._watch = watch
        self._around = around or Surroundings()
        self._listeners: dict[int, _Listener] = {}  # by process

    @contextmanager
    def waiting(self, operation_id: str, wake: Callable[[], object]) -> Iterator[Waiter]:
        """Have `wake` called whenever the operation may have changed, until the context ends.

        The first call comes when no later change can be missed, or when there is no waiting.
        """
        waiter = Waiter(operation_id, wake)
        listener = self._listener()
        listener.add(waiter)
        try:
            yield waiter
        finally:
            listener.remove(waiter)

    def close(self) -> None:
        """Dismiss all who wait in this process; for those who come later it begins anew."""
        listener = self._listeners.pop(os.getpid(), None)
        if listener is not None:
            listener.close()

    def _listener(self) -> _Listener:
        listener = self._listeners.get(os.getpid())
        if listener is None:
            # setdefault is atomic and needs no lock, which a fork could have inherited locked.
            fresh = _Listener(self._watch, self._around)
            listener = self._listeners.setdefault(os.getpid(), fresh)
        return listener


class _Listener:
    """The waiters of one process, and the thread that wakes them."""

    def __init__(self, watch: Watch, around: Surroundings) -> None:
        self._watch = watch
        self._around = around
        # Reentrant: the garbage collector may end somebody's waiting in any line of this class.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._by_operation: dict[str, set[Waiter]] = {}
        self._due: dict[Waiter, float] = {}  # when each is woken at the latest; soonest first
        self._is_listening = False
        self._is_closed = False
        self._deserted = 0.0  # since when there are no waiters
        self._failures = 0  # of the watch, one after another

    def add(self, waiter: Waiter) -> None:
        with self._lock:
            waiter.is_dismissed = self._is_closed or not self._has_thread()
            self._by_operation.setdefault(waiter.operation_id, set()).add(waiter)
            self._due[waiter] = self._around.clock() + REREAD
            is_heard = self._is_listening or waiter.is_dismissed
        if is_heard:
            waiter.wake()

    def remove(self, waiter: Waiter) -> None:
        with self._lock:
            same = self._by_operation[waiter.operation_id]
            same.discard(waiter)
            if not same:
                del self._by_operation[waiter.operation_id]
            del self._due[waiter]
            self._deserted = self._around.clock()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True  # the thread sees it when it next looks around
        self._dismiss()

    def _has_thread(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="raincheck-watcher", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                logger.warning("nobody can wait for an operation: %s", error)
                return False
            self._thread = thread
        return True

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                self._listen()
                return
            except StoreError as error:
                if not self._failures:
                    logger.warning("operations are not watched now: %s", error)
            except Exception:
                logger.exception("a watch met a defect and is begun again")
            with self._lock:
                self._is_listening = False
            self._failures += 1
            if self._retires_in_a_pause():
                return

    def _listen(self) -> None:
        """Pass hints on until there is nobody to pass them to."""
        with closing(self._watch(TICK)) as hints:
            next(hints)
            self._wake(self._all_from_now_on())
            while not self._retires():
                asked = self._around.clock()
                hint = next(hints)
                if hint is not None:
                    self._wake(self._waiters_of(hint))
                elif self._around.clock() - asked < EARLY * TICK:
                    self._wake(self._all_from_now_on())
                self._look_around()

    def _retires_in_a_pause(self) -> bool:
        """Leave a watch that fails alone for a while, and go on waking who waits."""
        first, most = PAUSES
        pause = min(first * 2 ** min(self._failures - 1, 10), most)
        end = self._around.clock() + pause
        while (rest := end - self._around.clock()) > 0:
            if self._retires():
                return True
            self._around.sleep(min(TICK, rest))
            self._look_around()
        return self._retires()

    def _look_around(self) -> None:
        self._wake(self._waiters_that_are_due())
        if self._around.is_stopping():
            self._dismiss()

    def _retires(self) -> bool:
        """Tell whether this thread is to end; who comes then finds none and starts another."""
        with self._lock:
            is_idle = not self._due and self._around.clock() - self._deserted > LINGER
            if not (self._is_closed or is_idle):
                return False
            self._is_listening = False
            self._thread = None
            return True

    # --- who is woken --------------------------------------------------------------------------

    def _waiters_of(self, operation_id: str) -> list[Waiter]:
        with self._lock:
            return list(self._by_operation.get(operation_id, ()))

    def _all_from_now_on(self) -> list[Waiter]:
        with self._lock:
            self._is_listening = True
            self._failures = 0
            return list(self._due)

    def _waiters_that_are_due(self) -> list[Waiter]:
        now, found = self._around.clock(), list[Waiter]()
        with self._lock:
            while self._due:
                waiter, moment = next(iter(self._due.items()))
                if moment > now:
                    break
                del self._due[waiter]
                self._due[waiter] = now + REREAD
                found.append(waiter)
        return found

    def _dismiss(self) -> None:
        with self._lock:
            waiters = list(self._due)
            for waiter in waiters:
                waiter.is_dismissed = True
        self._wake(waiters)

    def _wake(self, waiters: list[Waiter]) -> None:
        for waiter in waiters:
            try:
                waiter.wake()
            except Exception:
                logger.exception("somebody who waits for an operation could not be woken")
