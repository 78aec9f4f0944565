"""Threads for what may block on the store or on the application, so that neither starves the other.

A few of each kind: polls that wait for somebody's identity server must not keep responses waiting.
Where the application is asked, its code may expect a thread of anyio's. What only the store is
asked goes to threads of our own: a change of threads by anyio costs four times as much.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.to_thread

from raincheck.engine import threads

_AT_ONCE = 16  # of each kind

_T = TypeVar("_T")
_THREADS = threads.Threads(name="raincheck-asgi")


class Threads:
    """The threads of one event loop."""

    waiter: Callable[[], Any]

    def __init__(self) -> None:
        self._polls, self._asks = (anyio.CapacityLimiter(_AT_ONCE) for _ in range(2))
        self._reads, self._promotions, self._writers = (_Lane(self) for _ in range(3))
        self._thread = threading.get_ident()

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in the loop's thread."""
        raise NotImplementedError

    def wake(self, waiter: Any) -> None:
        """Let the task that awaits `waiter` go on."""
        raise NotImplementedError

    async def poll(self, function: Callable[..., _T], *args: Any) -> _T:
        return await anyio.to_thread.run_sync(function, *args, limiter=self._polls)

    async def ask(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._shielded(self._asks, function, *args)

    async def read(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._wait(self._reads.begin(partial(function, *args)))

    async def promote(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._wait(self._promotions.begin(partial(function, *args)))

    async def record(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._wait_in_any_case(self._writers.begin(partial(function, *args)))

    async def _shielded(
        self, limiter: anyio.CapacityLimiter, function: Callable[..., _T], *args: Any
    ) -> _T:
        result: Any = None
        with anyio.CancelScope(shield=True):
            result = await anyio.to_thread.run_sync(function, *args, limiter=limiter)
        return cast(_T, result)

    async def _wait(self, call: Call[_T]) -> _T:
        if not call.is_over:
            call.waiter = self.waiter()
            await call.waiter
        return call.result()

    async def _wait_in_any_case(self, call: Call[_T]) -> _T:
        with anyio.CancelScope(shield=True):
            await self._wait(call)
        return call.result()


class Call(Generic[_T]):
    """What is done in a thread, and awaited in the loop's; what is not said is of the loop's."""

    def __init__(self, work: Callable[[], _T]) -> None:
        self.waiter: Any = None
        self.is_over = False
        self._context = copy_context()
        self._work = work
        self._error: BaseException | None = None
        self._found: list[_T] = []

    def run(self) -> None:
        """Do it, in its own thread."""
        try:
            self._found.append(self._context.run(self._work))
        except BaseException as error:
            self._error = error

    def fail(self, error: BaseException) -> None:
        """Have it met an error."""
        self._error = error

    def result(self) -> _T:
        """Return what came of it, or raise what it has met."""
        if self._error is None:
            return self._found[0]
        try:
            raise self._error
        finally:
            self._error = None  # or its traceback would keep this object alive


class _Lane:
    """A few threads, and what waits for one; but for `_run` in the loop's thread."""

    def __init__(self, loop: Threads) -> None:
        self._loop = loop
        self._waiting = deque[Call[Any]]()
        self._under_way = 0

    def begin(self, work: Callable[[], _T]) -> Call[_T]:
        """Have something done as soon as there is a thread.

        Raises:
            RuntimeError: The system allows no more threads.
        """
        call = Call(work)
        if self._under_way < _AT_ONCE:
            self._start(call)
        else:
            self._waiting.append(call)
        return call

    def _start(self, call: Call[Any]) -> None:
        _THREADS.run(partial(self._run, call))
        self._under_way += 1

    def _run(self, call: Call[Any]) -> None:
        call.run()
        self._loop.call(partial(self._end, call))

    def _end(self, call: Call[Any]) -> None:
        self._under_way -= 1
        self._tell(call)
        # One that can't be started leaves nobody behind who would start the next.
        while self._waiting and self._under_way < _AT_ONCE:
            following = self._waiting.popleft()
            try:
                self._start(following)
            except RuntimeError as error:
                following.fail(error)
                self._tell(following)

    def _tell(self, call: Call[Any]) -> None:
        call.is_over = True
        if call.waiter is not None:
            self._loop.wake(call.waiter)
