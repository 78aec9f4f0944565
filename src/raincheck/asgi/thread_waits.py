"""Whether a task of asyncio waits for a thread, itself or in tasks of its own.

Cancelling a task there abandons the thread: the work goes on, and "cancelled" would be a lie. Only
the frames of whoever waits tell: a future that a thread completes looks like any other, and what is
not marked says nothing of its threads (`HandlerEnd` knows those of marked handlers).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import FrameType
from typing import Any

from anyio.abc import TaskGroup

# Where the usual ways into a thread wait for it.
_THREAD_HOPS = {
    ("anyio", "run_sync"),
    ("asyncio", "to_thread"),
    ("asgiref", "__call__"),
    ("litestar", "sync_to_thread"),
    ("litestar", "_run_sync_asyncio"),
    ("falcon", "wrapper"),
}


def waits_for_thread(task: Any) -> bool:
    """Tell whether there is a thread whose work would go on if `task` were cancelled."""
    seen, tasks = set[Any](), [task]
    while tasks:
        one = tasks.pop()
        if one in seen or not isinstance(one, asyncio.Task):
            continue
        seen.add(one)
        frames = list(frames_of(one.get_coro()))
        if any(_module(frame) == "raincheck.asgi.capture" for frame in frames):
            continue  # this thread stores what the handler sends
        if any(_is_thread_hop(frame) for frame in frames):
            return True
        tasks += _cancelled_with(one, frames)
    return False


def frames_of(coroutine: Any) -> Iterator[FrameType]:
    """Yield the frames in which a coroutine waits, the outermost first."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_thread_hop(frame: FrameType) -> bool:
    return (_module(frame).partition(".")[0], frame.f_code.co_name) in _THREAD_HOPS


def _cancelled_with(task: asyncio.Task[Any], frames: list[FrameType]) -> Iterator[Any]:
    """Yield the tasks that are cancelled with a task: it awaits them, or they are in its groups."""
    awaited = getattr(task, "_fut_waiter", None)
    yield awaited
    yield from getattr(awaited, "_children", ())  # `gather`
    for frame in frames:
        is_wait_for = frame.f_code is asyncio.wait_for.__code__  # which awaits no task of its own
        for value in list(frame.f_locals.values()):
            if _host(value) is task:
                yield from getattr(value, "_tasks", ())
            elif is_wait_for:
                yield value


def _host(group: object) -> object:
    """Return the task that a task group is of; None if it is no task group."""
    if isinstance(group, asyncio.TaskGroup):
        return getattr(group, "_parent_task", None)
    return getattr(group.cancel_scope, "_host_task", None) if isinstance(group, TaskGroup) else None
