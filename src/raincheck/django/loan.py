"""What the thread of a request in an async chain lends to its handler's, when that needs it.

Most async views have no use for a connection, and cost no way into another thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import ParamSpec, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync

from raincheck.django.lending import Lent, Patterns, leave_none, patterns, stand_in_for

_P = ParamSpec("_P")
_T = TypeVar("_T")
_SECONDS = 0.1  # that one who asks for an owner waits for a request's thread that is busy


def thread_around() -> Executor | None:
    """Return what runs the sync code of the middleware around; None: there has been none yet."""
    current: Executor | None = getattr(AsyncToSync.executors, "current", None)
    context = SyncToAsync.thread_sensitive_context.get(None)
    if current is not None or context is None:
        return current
    return SyncToAsync.context_to_thread_executor.get(context)


class Loan:
    """The connections of a request's thread, and where they are.

    Args:
        around: Runs what it is given in that thread; None: there is none yet.
    """

    def __init__(self, around: Executor | None) -> None:
        self.around = around
        self.is_kept = False  # they don't come back
        self.is_over = False  # its handler
        self._lent = Lent()
        self._lock = threading.Lock()
        self._offered: Future[None] | None = None

    def keep(self) -> None:
        """Have them be the handler's for good: the request is answered 202. Waits for nobody."""
        if self.is_over:
            return
        self.is_kept = True
        self._lent.forsake()
        self._offer()
        if self.around is not None:
            with suppress(RuntimeError):  # it has ended
                self.around.submit(self._lent.stand_in)

    def _offer(self) -> Future[None] | None:
        """Have the request's thread lend them, unless it has; return what is done then."""
        with self._lock:
            if self._offered is None and self.around is not None and not self._lent.is_away:
                try:
                    self._offered = self.around.submit(self._lent.lend)
                except RuntimeError:  # it has ended
                    self.around = None
            return self._offered

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Have this thread, which is neither's, ask the database meanwhile."""
        stand_in_for(self._known())
        try:
            yield
        finally:
            leave_none()

    def _known(self) -> Patterns:
        if self._lent.patterns or self.around is None:
            return self._lent.patterns
        with suppress(RuntimeError, TimeoutError):
            return self.around.submit(patterns).result(_SECONDS)
        return {}

    def turn(self) -> AbstractContextManager[None]:
        """Have the handler's thread go on, while this one, which lends, waits for it."""
        return self._lent.turn()

    @property
    def is_taken(self) -> bool:
        """Whether the handler's thread has them, and could give them back."""
        return self._lent.is_taken and not self.is_kept

    # --- the handler's thread ------------------------------------------------------------------

    def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do some work with them; they stay until they are given back."""
        if (offered := self._offer()) is not None:
            offered.result()
        self._lent.take()
        return work(*args, **kwargs)

    def step(self, work: Callable[[], _T]) -> _T:
        """Do some work with them while the thread that lends waits for it."""
        self._lent.take()
        try:
            return work()
        finally:
            if self._lent.is_taken:  # else this thread has its own, which it needs for the next
                self._lent.leave()

    def give_back(self) -> None:
        """Give them back, if the thread that lent them is there."""
        with self._lock:
            if not self.is_taken or self.around is None:
                return
            try:
                self.around.submit(self._lent.come_back)  # as soon as this thread has left them
            except RuntimeError:  # it has ended
                return
            self._offered = None
            self._lent.leave()

    def end(self) -> None:
        """Close what has not been given back."""
        if self._offered is not None:
            self._offered.result()
        if self._lent.is_away:
            self._lent.forsake()
        self._lent.take()
        self._lent.leave()
