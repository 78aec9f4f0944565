"""Which of the server's threads wait, and which of them lets go when none is left to serve others.

A thread that waits serves nobody else: as many slow requests as the server has threads would stop
it for the length of a budget. So when all of them wait, one is called away: a poll is answered with
what there is; else the request that has waited longest is answered 202 before its budget is over.
That is a last resort: no request is called away that has not had `LEAST` seconds.
"""

from __future__ import annotations

import re
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from raincheck.engine.per_process import PerProcess

PATIENCE = 0.05  # seconds until a thread counts as waiting: what is answered sooner pays nothing
LEAST = 1.0  # seconds that every request has from then on

_NUMBER = re.compile(r"\d+(?=\D*$)")
# A server with a thread for each request has no threads to run out of.
_ONE_FOR_EACH = "process_request_thread"  # socketserver's, of wsgiref and werkzeug
# A pool that starts its threads when they are needed, and which they don't refer to.
_ANYIO = "AnyIO worker thread"
_ANYIOS = 40

_Wake = Callable[[], object]
_Wait = Callable[[float | None], bool]


class Turn:
    """The waiting of one thread; it is over when the context ends.

    Attributes:
        is_called: Whether the thread is to let go, because too many wait.
    """

    __slots__ = ("_crowd", "_most", "is_called", "is_poll", "is_ripe", "kind", "wake")

    def __init__(
        self, crowd: _Crowd, kind: str, most: int, wake: _Wake | None, *, is_poll: bool = False
    ) -> None:
        self._crowd = crowd
        self._most = most
        self.kind = kind
        self.wake = wake
        self.is_called = False
        self.is_poll = is_poll
        self.is_ripe = is_poll  # its client asks again, whenever it is answered

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, *_: object) -> None:
        self._crowd.leave(self)

    def wait(self, wait: _Wait, seconds: float | None) -> None:
        """Wait; after `LEAST` seconds of it the thread may be called away.

        Args:
            wait: Waits for some seconds, or for ever (None); tells whether there is nothing left to
                wait for. It returns at once when the thread is called away.
            seconds: How long at most; None: for ever.
        """
        if seconds is None or seconds <= LEAST or self.is_poll:
            wait(seconds)
        elif not wait(LEAST):
            self.ripen()
            wait(seconds - LEAST)

    def ripen(self) -> None:
        """Take note that it has had its time: from now on it may be called away."""
        self.is_ripe = self.wake is not None
        self.relieve()

    def relieve(self) -> None:
        """Call a thread away if too many wait; it may be this one."""
        called = self._crowd.call(self.kind, self._most)
        if called is not None and called.wake is not None:
            called.wake()


class _Crowd:
    """Those who wait; who came first is the first."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._lock = threading.Lock()

    def join(self, turn: Turn, most: float) -> bool:
        """Let one more wait, unless that were more than so many."""
        with self._lock:
            if len(self._staying(turn.kind)) >= most:
                return False
            self._turns.append(turn)
            return True

    def leave(self, turn: Turn) -> None:
        with self._lock:
            self._turns.remove(turn)

    def call(self, kind: str, most: float) -> Turn | None:
        """Choose who lets go, if more than so many wait: a poll, or who has waited longest."""
        with self._lock:
            staying = self._staying(kind)
            ripe = [turn for turn in staying if turn.is_ripe] if len(staying) > most else []
            called = min(ripe, key=lambda turn: not turn.is_poll, default=None)
            if called is not None:
                called.is_called = True
            return called

    def _staying(self, kind: str) -> list[Turn]:
        return [turn for turn in self._turns if turn.kind == kind and not turn.is_called]


# One for all middlewares: they share the server's threads, of which a fork has none.
_EVERYBODY = PerProcess(_Crowd)


class Waiting:
    """Counts the threads of this process that wait, and has one let go where they are too many.

    Args:
        most: How many may wait; None: all threads that the server has but one, or its only one.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._crowd_of = _EVERYBODY if most is None else PerProcess(_Crowd)

    def begin(self, wake: _Wake | None) -> Turn:
        """Take note that this thread waits for the response to a request.

        Args:
            wake: Called from any thread when this one is to let go; None: it can't.
        """
        kind, threads = self._threads()
        most = self._most if self._most is not None else max(1, threads - 1)
        turn = Turn(self._crowd_of.get(), kind, most, wake)
        turn._crowd.join(turn, sys.maxsize)
        turn.relieve()
        return turn

    def begin_poll(self, wake: _Wake) -> Turn | None:
        """Do so for a poll, which may be answered at once; None if it has to be.

        That is where half of the threads wait already, and in a server's only one.
        """
        kind, _ = self._threads()
        most = self.most_polls
        turn = Turn(self._crowd_of.get(), kind, most, wake, is_poll=True)
        return turn if turn._crowd.join(turn, most) else None

    @property
    def most_polls(self) -> int:
        """How many of this thread's pool may wait when one more poll comes; 0: none ever waits."""
        return self._most if self._most is not None else self._threads()[1] // 2

    def _threads(self) -> tuple[str, int]:
        """Say which pool this thread is of, and how large that is."""
        if self._most is not None:
            return "", self._most
        threads = serving_threads()
        return _kind(threading.current_thread()), sys.maxsize if threads is None else threads


def serving_threads() -> int | None:
    """Count the threads that are named like this one but for their number: the server's pool.

    Returns:
        None if there is no pool: each request has a thread of its own, or a greenlet.
    """
    own = threading.current_thread()
    most = _may_be_started(own)
    if _ONE_FOR_EACH in own.name or _is_greenlet() or (most == 1 and _is_of_asgiref()):
        return None
    kind = _kind(own)
    started = sum(_kind(thread) == kind for thread in threading.enumerate())
    return max(started, most)


def _kind(thread: threading.Thread) -> str:
    return _NUMBER.sub("", thread.name)


def _may_be_started(thread: threading.Thread) -> int:
    """Look up the size of the pool a thread belongs to, as far as it says so.

    The executors of gthread and a2wsgi start theirs one by one, and only the thread itself refers
    to its executor. mod_wsgi's threads are there, but Python knows only those that it has seen.
    """
    if thread.name == _ANYIO:
        return _ANYIOS
    arguments = getattr(thread, "_args", None) or (None,)
    executor = arguments[0]() if isinstance(arguments[0], weakref.ref) else None
    apache: Any = sys.modules.get("mod_wsgi")
    foreign = getattr(apache, "threads_per_process", 0) if thread.name.startswith("Dummy-") else 0
    return int(getattr(executor, "_max_workers", foreign))


def _is_of_asgiref() -> bool:
    """Tell whether this thread runs sync code of an event loop: Django has one for each request."""
    asgiref = sys.modules.get("asgiref.sync")
    return asgiref is not None and hasattr(asgiref.SyncToAsync.threadlocal, "main_event_loop")


def _is_greenlet() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return True
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and patcher.is_monkey_patched("thread")
