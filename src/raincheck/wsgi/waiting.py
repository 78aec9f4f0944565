"""How many of the server's threads may wait out a budget: they serve nobody else meanwhile.

Without a cap, as many slow requests as the server has threads stop it for the length of a budget.
A request that finds the cap reached is promoted early, and the fast ones find a thread.
"""

from __future__ import annotations

import re
import sys
import threading
import weakref

from raincheck.engine.per_process import PerProcess

PATIENCE = 0.05  # seconds that every request may take, so that fast answers come as they are

_NUMBER = re.compile(r"\d+(?=\D*$)")
# A server with a thread for each request has no threads to run out of.
_ONE_FOR_EACH = "process_request_thread"  # socketserver's, of wsgiref and werkzeug


class Waiting:
    """Counts the threads of this process that wait beyond `PATIENCE`.

    Args:
        most: How many may; None: half of the threads that the server has.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._count_of = PerProcess(_Count)  # a fork has none of the threads

    def begin(self) -> bool:
        """Take note that one more waits; False if it may not."""
        count = self._count
        with count.lock:
            if count.waiting >= (self._half(count) if self._most is None else self._most):
                return False
            count.waiting += 1
            return True

    def end(self) -> None:
        """Take note that one less waits."""
        count = self._count
        with count.lock:
            count.waiting -= 1

    @property
    def _count(self) -> _Count:
        return self._count_of.get()

    def _half(self, count: _Count) -> int:
        if not count.waiting:
            return 1
        threads = serving_threads()
        return sys.maxsize if threads is None else max(1, threads // 2)


class _Count:
    def __init__(self) -> None:
        self.waiting = 0
        self.lock = threading.Lock()


def serving_threads() -> int | None:
    """Count the threads that are named like this one but for their number: the server's pool.

    Returns:
        None if there is no pool: each request has a thread of its own, or a greenlet.
    """
    own = threading.current_thread()
    most = _may_be_started(own)
    if _ONE_FOR_EACH in own.name or _is_gevent() or (most == 1 and _is_of_asgiref()):
        return None
    kind = _NUMBER.sub("", own.name)
    started = sum(_NUMBER.sub("", thread.name) == kind for thread in threading.enumerate())
    return max(started, most)


def _may_be_started(thread: threading.Thread) -> int:
    """Look up the size of the executor a thread belongs to; gthread's starts them one by one.

    Only the thread itself refers to its executor; where it does not, what has started counts.
    """
    arguments = getattr(thread, "_args", None) or (None,)
    executor = arguments[0]() if isinstance(arguments[0], weakref.ref) else None
    return int(getattr(executor, "_max_workers", 0))


def _is_of_asgiref() -> bool:
    """Tell whether this thread runs sync code of an event loop: Django has one for each request."""
    asgiref = sys.modules.get("asgiref.sync")
    return asgiref is not None and hasattr(asgiref.SyncToAsync.threadlocal, "main_event_loop")


def _is_gevent() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")
