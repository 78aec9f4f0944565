"""Waking those who wait for an operation, or listen to it: one watch of the store per process.

What a watch yields are hints. So an operation that somebody waits for is read after each hint, as
soon as the watch listens, and from then on at least every few seconds, heard or not. One thread
listens and another one reads: once, however many wait for an operation. Its end wakes all of them,
and any other change that a client would see those who listen. No event loop here: who waits says
how it is woken.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from raincheck.engine.per_process import PerProcess
from raincheck.errors import StoreError
from raincheck.monitor.listeners import Listeners, Listening, Seen, Waiter, wake

logger = logging.getLogger("raincheck")

REREAD = 5.0  # seconds after which an operation is read although nothing was heard of it
TICK = 1.0  # seconds between looks around while nothing is heard
EARLY = 0.9  # of a tick: a None that comes sooner says that something was missed
LINGER = 5.0  # seconds that the threads go on when the last one has gone
PAUSES = (0.5, 10.0)  # seconds before a watch that has failed is begun again: at first, at most

Watch = Callable[[float], Generator[str | None, None, None]]


See = Callable[[str], Seen]


def server_is_stopping() -> bool:
    """Tell whether the server of this process was told to stop, as far as that can be seen.

    uvicorn and gunicorn wait for all clients before they let anybody know. A client that waits for
    an operation would use up the time that the operations were given to end.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True or getattr(server, "alive", True) is False


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a watcher needs of its process: a clock and a sleep in seconds, and its end's sign."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = lambda seconds: time.sleep(seconds)  # gevent patches it
    is_stopping: Callable[[], bool] = server_is_stopping


class Watcher:
    """Wakes waiters; its threads start with the first of them, and again in a forked process.

    Args:
        watch: A store's method of that name.
        see: Looks at an operation; may block, and does not raise.
    """

    def __init__(self, watch: Watch, see: See, around: Surroundings | None = None) -> None:
        around = around or Surroundings()
        self._listener = PerProcess(lambda: _Listener(watch, see, around))

    @contextmanager
    def waiting(self, operation_id: str, wake: Callable[[], object]) -> Iterator[Waiter]:
        """Have `wake` called when there is nothing more to wait for, until the context ends."""
        waiter = Waiter(operation_id, wake)
        listener = self._listener.get()
        listener.add(waiter)
        try:
            yield waiter
        finally:
            listener.remove(waiter)

    @contextmanager
    def listening(
        self,
        operation_id: str,
        wake: Callable[[], object],
        known: str | None = None,
        *,
        takes_turns: bool = True,
    ) -> Iterator[Listening]:
        """Have `wake` called whenever there is news, until the context ends.

        Args:
            known: The event id of what is no news.
            takes_turns: Whether `pass_on` is called after each waking, so that few are woken at a
                time.
        """
        listening = Listening(operation_id, wake, known, takes_turns=takes_turns)
        listener = self._listener.get()
        listener.add(listening)
        try:
            yield listening
        finally:
            listener.remove(listening)

    def pass_on(self, listening: Listening) -> None:
        """Have the next one woken, however busy this one is."""
        self._listener.get().pass_on(listening)

    @property
    def waiters(self) -> int:
        """How many wait in this process."""
        listener = self._listener.peek()
        return 0 if listener is None else listener.waiters

    def close(self) -> None:
        """Dismiss all who wait in this process; for those who come later it begins anew."""
        listener = self._listener.take()
        if listener is not None:
            listener.close()


class _Listener:
    """The waiters of one process, and the thread that hears what they wait for."""

    def __init__(self, watch: Watch, see: See, around: Surroundings) -> None:
        self._watch = watch
        self._around = around
        # Reentrant: the garbage collector may end somebody's waiting in any line of this class.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._reader = _Reader(see, self._tell)
        self._by_operation: dict[str, Listeners] = {}
        self._due: dict[str, float] = {}  # when each is read at the latest; soonest first
        self._is_listening = False
        self._is_closed = False
        self._deserted = 0.0  # since when there are no waiters
        self._failures = 0  # of the watch, one after another
        self.waiters = 0

    def add(self, waiter: Waiter) -> None:
        operation_id = waiter.operation_id
        with self._lock:
            is_dismissed = self._is_closed or not self._has_thread()
            self._by_operation.setdefault(operation_id, Listeners()).add(waiter)
            self._due.setdefault(operation_id, self._around.clock() + REREAD)
            self.waiters += 1
            is_heard = self._is_listening
        if is_dismissed:
            waiter.tell(None)
            waiter.wake()
        elif is_heard:
            self._reader.read(operation_id)

    def remove(self, waiter: Waiter) -> None:
        operation_id = waiter.operation_id
        with self._lock:
            same = self._by_operation[operation_id].waiters
            same.discard(waiter)
            if not same:
                del self._by_operation[operation_id]
                del self._due[operation_id]
            self.waiters -= 1
            self._deserted = self._around.clock()
        self.pass_on(waiter)

    def pass_on(self, waiter: Waiter) -> None:
        with self._lock:
            successor, waiter.successor = waiter.successor, None
        if successor is not None:
            wake(successor)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True  # the thread sees it when it next looks around
        self._reader.clear()
        self._dismiss()

    def _has_thread(self) -> bool:
        if self._thread is None:
            self._thread = _start(self._run, "raincheck-watcher")
        return self._thread is not None

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
                logger.exception("a watch failed unexpectedly and is begun again")
            with self._lock:
                self._is_listening = False
            self._failures += 1
            if self._retires_in_a_pause():
                return

    def _listen(self) -> None:
        """Pass hints on until there is nobody to pass them to."""
        with closing(self._watch(TICK)) as hints:
            next(hints)
            self._read_all_from_now_on()
            while not self._retires():
                asked = self._around.clock()
                hint = next(hints)
                if hint is not None:
                    self._read([hint])
                elif self._around.clock() - asked < EARLY * TICK:
                    self._read_all_from_now_on()
                self._look_around()

    def _retires_in_a_pause(self) -> bool:
        """Leave a watch that fails alone for a while, and go on reading what is waited for."""
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
        self._read(self._take_due(), later=True)
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

    # --- what is read ---------------------------------------------------------------------------

    def _read_all_from_now_on(self) -> None:
        with self._lock:
            self._is_listening = True
            self._failures = 0
            waited_for = list(self._by_operation)
        self._read(waited_for)

    def _take_due(self) -> list[str]:
        now, found = self._around.clock(), list[str]()
        with self._lock:
            while self._due:
                operation_id, moment = next(iter(self._due.items()))
                if moment > now:
                    break
                del self._due[operation_id]
                self._due[operation_id] = now + REREAD
                found.append(operation_id)
        return found

    def _read(self, operation_ids: list[str], *, later: bool = False) -> None:
        for operation_id in operation_ids:
            if operation_id in self._by_operation:
                self._reader.read(operation_id, later=later)

    # --- who is woken --------------------------------------------------------------------------

    def _tell(self, operation_id: str, seen: Seen | None) -> None:
        with self._lock:
            audience = self._by_operation.get(operation_id)
            woken = audience.tell(seen) if audience is not None else []
        for waiter in woken:
            wake(waiter)

    def _dismiss(self) -> None:
        for operation_id in list(self._by_operation):
            self._tell(operation_id, None)


class _Reader:
    """Looks at operations in a thread, one after another.

    Args:
        tell: Given an id and what was seen; None if nothing can be read.
    """

    def __init__(self, see: See, tell: Callable[[str, Seen | None], None]) -> None:
        self._see = see
        self._tell = tell
        self._wanted = threading.Condition(threading.RLock())
        self._soon: dict[str, None] = {}  # ids in their order, each once
        self._later: dict[str, None] = {}
        self._thread: threading.Thread | None = None

    def read(self, operation_id: str, *, later: bool = False) -> None:
        """Have an operation looked at, and told of.

        Args:
            later: Whether others go first.
        """
        with self._wanted:
            (self._later if later else self._soon)[operation_id] = None
            if self._thread is None:
                self._thread = _start(self._run, "raincheck-reader")
            is_hopeless = self._thread is None
            self._wanted.notify()
        if is_hopeless:
            self._tell(operation_id, None)

    def clear(self) -> None:
        """Look at nothing more of what was asked for."""
        with self._wanted:
            self._soon.clear()
            self._later.clear()

    def _run(self) -> None:
        while (operation_id := self._next()) is not None:
            self._tell(operation_id, self._see(operation_id))

    def _next(self) -> str | None:
        with self._wanted:
            if not self._wanted.wait_for(lambda: self._soon or self._later, LINGER):
                self._thread = None
                return None
            ids = self._soon or self._later
            operation_id = next(iter(ids))
            del ids[operation_id]
            return operation_id


def _start(run: Callable[[], None], name: str) -> threading.Thread | None:
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        logger.warning("nobody can wait for an operation: %s", error)
        return None
    return thread
