"""What a gateway needs of an event loop, natively for asyncio and for trio.

This is on the path of every request that may be deferred. anyio would do all of it in one
implementation and cost seven times as much there, so it is used for the cold parts only.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, Protocol, TypeVar, cast

import anyio
import anyio.to_thread

from raincheck.asgi.budgets import Awaits, Budget
from raincheck.asgi.cancelling import Witness, hold_out, is_shielded, see_off
from raincheck.asgi.store_threads import Lane, Threads
from raincheck.asgi.thread_waits import waits_for_thread
from raincheck.asgi.trio_tasks import TrioTask, TrioWaiter

_T = TypeVar("_T")
_CHECK = 0.1  # seconds between looks at what ends without telling: threads and shields
_NOWHERE = Context()  # or a timer would run in, and keep alive, the context of some request


class Task(Protocol):
    """A coroutine that runs on its own."""

    def cancel(self) -> object: ...


class Racer(Awaits, Protocol):
    """Runs against its budget."""

    over: bool  # whether it has run
    task: Task
    waiter: Any  # what its end and that of its budget wake; not set if it is over by then
    watched: dict[Awaits, float] | None  # where it waits for the latter

    async def run(self) -> None: ...


class Loop(Protocol):
    """One event loop, for as long as it runs."""

    @property
    def native(self) -> object:
        """What asyncio calls the running loop; of trio, nothing that it does."""

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; from any thread."""
        ...

    @property
    def has_ended(self) -> bool:
        """Whether nothing will ever go on in it again; from any thread."""
        ...

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Task:
        """Run a coroutine on its own; it handles its exceptions. Nothing begins in a loop's end."""
        ...

    def launch(self, who: Racer, budget: float | None) -> Any:
        """Run somebody in a task of its own, which may begin at once, and watch its budget.

        Returns:
            Its waiter; None if it is over.
        """
        ...

    def waiter(self) -> Any:
        """Return what one task can await until `wake`; `done` and `set_result` are a future's."""
        ...

    def wake(self, waiter: Any) -> None:
        """Let the task that awaits `waiter` go on; a second time does nothing."""
        ...

    def watch(self, who: Awaits, budget: float) -> dict[Awaits, float]:
        """Tell `who` when `budget` seconds are over, unless it is popped from what is returned."""
        ...

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in the loop's thread, at once if this is it."""
        ...

    def soon(self, function: Callable[[], None]) -> None:
        """Call a function in the loop's thread, which is this one, when it has come round."""
        ...

    def is_in(self, task: Task) -> bool:
        """Tell whether this is called in a task."""
        ...

    def coroutines(self) -> list[Any]:
        """Return what runs in it."""
        ...

    def attend(self) -> None:
        """Begin to see whether tasks are cancelled because the loop ends."""
        ...

    def dismiss(self) -> None:
        """See it no longer: there are no such tasks."""
        ...

    def has_cancelled(self, task: Task, error: BaseException | None) -> bool:
        """Tell whether a task has ended with an error because the loop ends."""
        ...

    async def see_off(
        self, task: Task, is_over: Callable[[], bool], pause: Callable[[], Awaitable[None]]
    ) -> None:
        """Cancel a task because the task that waits for it was cancelled, and wait for its end."""
        ...

    async def cancel(self, task: Task, is_over: Callable[[], bool]) -> None:
        """Cancel a task, but neither in a shield nor while it waits for a thread."""
        ...

    async def poll(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call what finds an answer to a poll, in a thread."""
        ...

    async def look(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call what looks at operations for many polls, in a thread."""
        ...

    async def read(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call what reads a stored response, in a thread."""
        ...

    async def ask(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call what asks the application, in a thread; not interrupted by a cancellation."""
        ...

    async def promote(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call what records an operation, in a thread."""
        ...

    async def record(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call what writes a response, in a thread; not interrupted by a cancellation."""
        ...


class AsyncioLoop(Threads):
    """The running asyncio loop, whichever implements it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = self.native = loop
        self.waiter = loop.create_future
        self._witness = witness = Witness(loop)
        self.attend, self.dismiss = witness.attend, witness.dismiss
        self._budgets: dict[float, Budget] = {}

    @property
    def is_alive(self) -> bool:
        return self.loop.is_running()

    @property
    def has_ended(self) -> bool:
        return self.loop.is_closed()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.Task(coroutine, loop=self.loop, name="raincheck")

    def launch(self, who: Racer, budget: float | None) -> asyncio.Future[None] | None:
        # An eager task costs half if it never suspends, and no more if it does. What is told its
        # loop costs more than what finds it: a fiftieth of all.
        if sys.version_info >= (3, 12):
            who.task = asyncio.Task(who.run(), loop=self.loop, name="raincheck", eager_start=True)
        else:
            who.task = asyncio.Task(who.run(), name="raincheck")
        if who.over:
            return None
        waiter: asyncio.Future[None] = asyncio.Future()
        who.waiter = waiter
        if budget:
            group = self._budgets.get(budget)
            if group is not None and group.is_armed:  # else as here: a call costs as much as this
                group.waiting[who] = self.loop.time()
                who.watched = group.waiting
            else:
                who.watched = self.watch(who, budget)
        return waiter

    def wake(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)

    def watch(self, who: Awaits, budget: float) -> dict[Awaits, float]:
        group = self._budgets.get(budget)
        if group is None:
            group = self._budgets[budget] = Budget(budget, self.loop.time)
        group.waiting[who] = now = self.loop.time()
        if not group.is_armed:
            group.is_armed = True
            self.loop.call_at(now + budget, self._tick, group, context=_NOWHERE)
        return group.waiting

    def _tick(self, group: Budget) -> None:
        due = group.release()
        group.is_armed = due is not None
        if due is not None:
            self.loop.call_at(due, self._tick, group, context=_NOWHERE)

    def call(self, function: Callable[[], None]) -> None:
        if threading.get_ident() != self._thread:
            with suppress(RuntimeError):  # it is closed: there is nobody left to be told
                self.loop.call_soon_threadsafe(function)
        elif not self.has_ended:  # else this is another thread, to which that number has come
            function()

    def soon(self, function: Callable[[], None]) -> None:
        self.loop.call_soon(function)

    async def _shielded(
        self, limiter: anyio.CapacityLimiter, function: Callable[..., _T], *args: Any
    ) -> _T:
        # In a task of its own: a scope of anyio does not keep off what asyncio itself cancels.
        work = self.loop.create_task(super()._shielded(limiter, function, *args))
        interruption: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not work.done():
                try:
                    await asyncio.wait([work])
                except asyncio.CancelledError as error:
                    interruption = error
        if interruption is not None:
            raise interruption
        return work.result()

    async def _wait_in_any_case(self, lane: Lane, work: Callable[[], _T]) -> _T:
        return await hold_out(lane.begin(work), self.waiter)

    def is_in(self, task: Task) -> bool:
        if threading.get_ident() != self._thread:
            return False
        return asyncio.current_task(self.loop) is task

    def coroutines(self) -> list[Any]:
        return [task.get_coro() for task in asyncio.all_tasks(self.loop)]

    def has_cancelled(self, task: Task, error: BaseException | None) -> bool:
        is_cancelled = isinstance(task, asyncio.Task) and task.cancelling() > 0
        return is_cancelled and self._witness.may_see_the_end

    async def see_off(
        self, task: Task, is_over: Callable[[], bool], pause: Callable[[], Awaitable[None]]
    ) -> None:
        await see_off(cast("asyncio.Task[None]", task), is_over, pause)

    async def cancel(self, task: Task, is_over: Callable[[], bool]) -> None:
        # No event tells:
        while not is_over() and (is_shielded(task) or waits_for_thread(task)):  # noqa: ASYNC110
            await anyio.sleep(_CHECK)
        if not is_over():
            task.cancel()


class TrioLoop(Threads):
    """The running trio loop."""

    def __init__(self) -> None:
        super().__init__()
        import trio

        self._trio = trio
        self.native = self
        self._token = trio.lowlevel.current_trio_token()
        self._budgets: dict[float, Budget] = {}

    @property
    def is_alive(self) -> bool:
        try:
            self._token.run_sync_soon(_nothing, idempotent=True)
            return True
        except self._trio.RunFinishedError:
            return False

    @property
    def has_ended(self) -> bool:
        return not self.is_alive

    def is_current(self) -> bool:
        return self._trio.lowlevel.current_trio_token() is self._token

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> TrioTask:
        scope, context = self._trio.CancelScope(), copy_context()

        async def run() -> None:
            with scope:
                await coroutine

        try:
            self._trio.lowlevel.spawn_system_task(run, context=context)
        except RuntimeError:  # the last tasks of this run are over
            coroutine.close()
        return TrioTask(scope, context)

    def is_in(self, task: Task) -> bool:
        if threading.get_ident() != self._thread or not isinstance(task, TrioTask):
            return False
        return self._trio.lowlevel.current_task().context is task.context

    def launch(self, who: Racer, budget: float | None) -> TrioWaiter:
        who.task = self.spawn(who.run())
        who.waiter = waiter = self.waiter()
        if budget:
            who.watched = self.watch(who, budget)
        return waiter

    def waiter(self) -> TrioWaiter:
        return TrioWaiter(self._trio)

    def wake(self, waiter: TrioWaiter) -> None:
        waiter.set_result(None)

    def watch(self, who: Awaits, budget: float) -> dict[Awaits, float]:
        group = self._budgets.get(budget)
        if group is None:
            group = self._budgets[budget] = Budget(budget, self._trio.current_time)
        group.waiting[who] = self._trio.current_time()
        if not group.is_armed:
            group.is_armed = True
            self._trio.lowlevel.spawn_system_task(self._tick, group, context=_NOWHERE.copy())
        return group.waiting

    async def _tick(self, group: Budget) -> None:
        due: float | None = self._trio.current_time() + group.seconds
        with self._trio.CancelScope(shield=group.seconds <= _CHECK):  # for what a run's end records
            while due is not None:
                await self._trio.sleep_until(due)
                due = group.release()
        group.is_armed = False

    def call(self, function: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread:
            function()
        else:
            with suppress(self._trio.RunFinishedError):  # there is nobody left to be told
                self._token.run_sync_soon(function)

    def soon(self, function: Callable[[], None]) -> None:
        with suppress(self._trio.RunFinishedError):
            self._token.run_sync_soon(function)

    def coroutines(self) -> list[Any]:
        root = self._trio.lowlevel.current_root_task()
        tasks = [root] if root is not None else []
        for task in tasks:  # which grows meanwhile
            tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        return [task.coro for task in tasks]

    def attend(self) -> None:
        """Nothing else than the end of the loop lets a task end so."""

    dismiss = attend

    def has_cancelled(self, task: Task, error: BaseException | None) -> bool:
        cancelled = self._trio.Cancelled  # which nobody but trio can raise
        if isinstance(error, BaseExceptionGroup):
            return error.subgroup(cancelled) is not None
        return isinstance(error, cancelled)

    async def see_off(
        self, task: Task, is_over: Callable[[], bool], pause: Callable[[], Awaitable[None]]
    ) -> None:
        task.cancel()
        with self._trio.CancelScope(shield=True):
            while not is_over():
                await pause()

    async def cancel(self, task: Task, is_over: Callable[[], bool]) -> None:
        if not is_over():
            task.cancel()  # trio itself waits for threads


def _nothing() -> None:
    """Be called only to see whether anything is."""


def running_loop(known: Loop | None) -> Loop:
    """Return the running loop: `known` if it is that one, as it almost always is."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        if isinstance(known, TrioLoop) and known.is_current():
            return known
        return TrioLoop()
    if type(known) is AsyncioLoop and known.loop is loop:
        return known
    return AsyncioLoop(loop)
