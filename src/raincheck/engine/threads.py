"""Threads for work that nobody waits for in line: handlers, and what a client asks of the store.

Daemons, so that none can keep a process from ending; an idle one is used again, the latest first,
and ends when it has been idle for long. Nothing is started before the first use, and a forked
process begins with none: only the thread that forks lives on in it.
"""

from __future__ import annotations

import atexit
import itertools
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

IDLE = 30.0  # seconds until a thread without work ends
Work = Callable[[], None]


def at_end(function: Callable[[], None]) -> None:
    """Have a function called when this process ends, before its threads are waited for."""
    # `atexit` comes too late: only when all threads are over that are no daemons, among them those
    # of thread pools and, under WSGI, of async views.
    register: Callable[[Callable[[], None]], object]
    register = getattr(threading, "_register_atexit", atexit.register)
    with suppress(RuntimeError):  # the end has begun
        register(function)


class Threads:
    """Runs work at once, in as many threads as it takes.

    Args:
        at_begin: Called once in each process, before its first work; may raise RuntimeError.
        at_end: Called in each thread before it ends.
        name: What the threads' names begin with.
    """

    def __init__(
        self,
        at_end: Work | None = None,
        at_begin: Work | None = None,
        name: str = "raincheck",
    ) -> None:
        self._name = name
        self._at_begin = at_begin
        self._at_end = at_end
        self._pid = 0
        self._idle: list[_Worker] = []
        self._number = itertools.count(1)

    def run(self, work: Work) -> None:
        """Run `work`, which must not raise, in another thread.

        Raises:
            RuntimeError: The system allows no more threads.
        """
        if self._pid != os.getpid():
            self._idle, self._pid = [], os.getpid()
            if self._at_begin is not None:
                self._at_begin()
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(self._idle, self._at_end, f"{self._name}-{next(self._number)}")
        worker.inbox.put(work)


class _Worker:
    def __init__(self, idle: list[_Worker], at_end: Work | None, name: str) -> None:
        self.inbox: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._idle = idle
        self._at_end = at_end
        threading.Thread(target=self._loop, name=name, daemon=True).start()

    def _loop(self) -> None:
        while (work := self._next()) is not None:
            work()
            del work  # or this thread would keep a whole request alive while it is idle
            self._idle.append(self)
        if self._at_end is not None:
            self._at_end()

    def _next(self) -> Work | None:
        while True:
            try:
                return self.inbox.get(timeout=IDLE)
            except queue.Empty:
                try:
                    self._idle.remove(self)
                    return None
                except ValueError:
                    pass  # somebody has just taken it out to give it work
