"""Threads for what may block on the store or on the application, so that neither starves the other.

A few of each kind: polls that wait for somebody's identity server must not keep responses waiting.
Where the application is asked, its code may expect a thread of anyio's. What only the store is
asked goes to threads of our own: a change of threads by anyio costs four times as much.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.to_thread

from raincheck.asgi.budgets import Awaits
from raincheck.engine import threads
from raincheck.engine.errands import Errand, Left, overdue, work_under

_AT_ONCE = 16  # of each kind
_WAIT = 0.005  # seconds for a thread, from which on there is one more: Python's switch interval
_LATEST = 0.001  # seconds until the loop hears that something is done, while there is more to do
_LOOK = 0.02  # seconds between looks at what is not done yet

_T = TypeVar("_T")
_THREADS = threads.Threads(name="raincheck-asgi")


class Threads:
    """The threads of one event loop."""

    waiter: Callable[[], Any]

    def __init__(self) -> None:
        self._polls, self._asks = (anyio.CapacityLimiter(_AT_ONCE) for _ in range(2))
        self._looks, self._reads, self._promotions, self._writers = (Lane(self) for _ in range(4))
        self._thread = threading.get_ident()

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in the loop's thread."""
        raise NotImplementedError

    def wake(self, waiter: Any) -> None:
        """Let the task that awaits `waiter` go on."""
        raise NotImplementedError

    def watch(self, who: Awaits, budget: float) -> dict[Awaits, float]:
        """Tell `who` when `budget` seconds are over, unless it is popped from what is returned."""
        raise NotImplementedError

    async def poll(self, function: Callable[..., _T], *args: Any) -> _T:
        return await anyio.to_thread.run_sync(function, *args, limiter=self._polls)

    async def ask(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._shielded(self._asks, function, *args)

    async def look(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._wait(self._looks, partial(function, *args))

    async def read(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._wait(self._reads, partial(function, *args))

    async def promote(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._wait(self._promotions, partial(function, *args))

    async def record(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._wait_in_any_case(self._writers, partial(function, *args))

    async def _shielded(
        self, limiter: anyio.CapacityLimiter, function: Callable[..., _T], *args: Any
    ) -> _T:
        result: Any = None
        with anyio.CancelScope(shield=True):
            result = await anyio.to_thread.run_sync(function, *args, limiter=limiter)
        return cast(_T, result)

    async def _wait(self, lane: Lane, work: Callable[[], _T]) -> _T:
        call = lane.begin(work)
        if not call.is_over:
            call.waiter = self.waiter()
            try:
                await call.waiter
            except BaseException:
                lane.forsake(call)
                raise
        return call.result()

    async def _wait_in_any_case(self, lane: Lane, work: Callable[[], _T]) -> _T:
        result: Any = None
        with anyio.CancelScope(shield=True):
            result = await self._wait(lane, work)
        return cast(_T, result)


class Call(Generic[_T]):
    """What is done in a thread, and awaited in the loop's; what is not said is of the loop's.

    Attributes:
        errand: What the thread asks of the store now, and may be left at.
        is_forsaken: Whether whoever awaited it was cancelled.
    """

    errand: Errand[Any] | None = None
    is_over = is_forsaken = False
    waiter: Any = None

    def __init__(self, work: Callable[[], _T]) -> None:
        self._context = copy_context()
        self._work = work
        self._error: BaseException | None = None
        self._found: list[_T] = []

    def run(self) -> bool:
        """Do it, in its own thread; False if it was left there meanwhile."""
        work_under(self)
        try:
            self._found.append(self._context.run(self._work))
        except Left:
            return False
        except BaseException as error:
            self._error = error
        finally:
            work_under(None)
        return True

    def fail(self, error: BaseException) -> None:
        """Have it met an error."""
        self._error = error

    def may_be_left(self) -> bool:
        """Leave its errand if that is overdue; tell whether it was."""
        errand = self.errand
        return errand is not None and not errand.patience and errand.leave(is_overdue=True)

    def result(self) -> _T:
        """Return what came of it, or raise what it has met."""
        if self._error is None:
            return self._found[0]
        try:
            raise self._error
        finally:
            self._error = None  # or its traceback would keep this object alive


class Lane:
    """What waits for a thread, and those that take it up; but for `_carry` in the loop's thread.

    One that takes up one after the other changes threads for none of them, and those who hold
    Python's lock gain nothing by being many. So there are more only for a store that is slow.
    """

    def __init__(self, loop: Threads) -> None:
        self._loop = loop
        self._waiting = deque[Call[Any]]()
        self._under_way = set[Call[Any]]()
        self._done = deque[Call[Any]]()
        self._is_told = False  # that there is something in it
        self._is_watched = False
        self._awaited = 0
        self._carriers = 0
        self._taken_up = 0  # since the last look
        self._pace = 0.0  # seconds that a call has taken lately

    def begin(self, work: Callable[[], _T]) -> Call[_T]:
        """Have something done as soon as there is a thread.

        Raises:
            RuntimeError: The system allows no threads.
        """
        call = Call(work)
        self._waiting.append(call)
        if not self._carriers or len(self._waiting) * self._pace > self._carriers * _WAIT:
            try:
                self._start(1)
            except RuntimeError:
                if not self._carriers:
                    self._waiting.remove(call)
                    raise
        self._awaited += 1
        self._watch()
        return call

    def forsake(self, call: Call[Any]) -> None:
        """Take note that whoever awaited a call does not any more."""
        if not call.is_over:
            call.is_forsaken = True
            self._awaited -= 1

    def _start(self, number: int) -> None:
        for _ in range(min(number, _AT_ONCE - self._carriers)):
            _THREADS.run(self._carry)
            self._carriers += 1

    def _start_for_those_who_wait(self, number: int = 1) -> None:
        try:
            self._start(number)
        except RuntimeError as error:
            while not self._carriers and self._waiting:  # nobody is left who would take them up
                call = self._waiting.popleft()
                call.fail(error)
                self._finish(call)

    # --- looks at what is not done yet ---------------------------------------------------------

    def _watch(self) -> None:
        if not self._is_watched:
            self._is_watched = True
            self._loop.watch(self, _LOOK)

    def budget_is_over(self) -> None:
        """Leave what is overdue, and have more threads if the store is slow."""
        self._is_watched = False
        self._tell()  # of what was done before something that takes its time
        for call in list(self._under_way):
            if call.may_be_left():
                self._leave(call)
        number, taken_up, self._taken_up = len(self._waiting), self._taken_up, 0
        if number > 2 * taken_up:  # the last of them would wait for more than two looks
            self._start_for_those_who_wait(number)
        if self._awaited:  # for what is forsaken, trio need not go on
            self._watch()

    def _leave(self, call: Call[Any]) -> None:
        """Go on without a call that asks in vain, and without its thread."""
        self._under_way.discard(call)
        call.fail(overdue())
        self._finish(call)
        self._go_on_without_one()

    # --- in its threads ------------------------------------------------------------------------

    def _carry(self) -> None:
        """Take up one after the other."""
        told = begin = time.monotonic()
        while (call := self._take_up()) is not None:
            # Not what is forsaken: an operation would be recorded of which nobody hears.
            if not (call.is_forsaken or call.run()):
                return  # somebody else goes on
            self._under_way.discard(call)
            self._done.append(call)
            del call
            begin, took = (now := time.monotonic()), now - begin
            self._pace += (took - self._pace) / 8
            # Not at once: the loop would want Python's lock while the next one has it.
            if self._waiting and not self._is_told and now - told > _LATEST:
                self._is_told, told = True, now
                self._loop.call(self._tell)
        self._loop.call(self._end)

    def _take_up(self) -> Call[Any] | None:
        try:
            call = self._waiting.popleft()
        except IndexError:
            return None
        self._under_way.add(call)
        self._taken_up += 1
        return call

    # --- what comes of it ----------------------------------------------------------------------

    def _end(self) -> None:
        self._tell()
        self._go_on_without_one()

    def _go_on_without_one(self) -> None:
        self._carriers -= 1
        if self._waiting and not self._carriers:
            self._start_for_those_who_wait()

    def _tell(self) -> None:
        self._is_told = False  # first: what is done from now on is told again
        while self._done:
            self._finish(self._done.popleft())

    def _finish(self, call: Call[Any]) -> None:
        call.is_over = True
        self._awaited -= not call.is_forsaken
        if call.waiter is not None:
            self._loop.wake(call.waiter)
