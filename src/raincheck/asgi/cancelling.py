"""What asyncio does not tell of cancellations: whose they are, and what anyio keeps them off from.

anyio cancels a task at every turn until it has left the scope, but not in a shield. asyncio cancels
once, shields or not: so what anyio does to one task may not be done to another as it comes.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from typing import Any, TypeVar

import anyio

from raincheck.asgi.store_threads import Call

_T = TypeVar("_T")
_SHIELD_CHECK = 0.02  # seconds between looks at a shield, for whose end a client may be waiting


class Witness:
    """Sees whether a loop ends, for as long as somebody wants to know.

    Who ends a loop cancels all that is in it, and so this, too; an application that cancels its own
    handlers does not.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wanted = 0  # how many want to know
        self._task: asyncio.Task[None] | None = None

    def attend(self) -> None:
        """Look for one more who wants to know, from the loop's thread."""
        self._wanted += 1
        if self._task is None:
            waiting, context = _wait_for(self._loop.create_future()), Context()
            self._task = asyncio.Task(waiting, loop=self._loop, name="raincheck", context=context)

    def dismiss(self) -> None:
        """Look for one less, from the loop's thread."""
        self._wanted -= 1
        if self._task is not None and not self._wanted:
            self._task.cancel()
            self._task = None

    @property
    def may_see_the_end(self) -> bool:
        """Whether the loop ends, or nobody has looked."""
        return self._task is None or self._task.done() or self._task.cancelling() > 0


async def _wait_for(future: asyncio.Future[None]) -> None:
    await future


async def see_off(
    task: asyncio.Task[None], is_over: Callable[[], bool], pause: Callable[[], Awaitable[None]]
) -> None:
    """Cancel a task whenever the running one is cancelled, and wait for its end.

    Args:
        pause: Waits until it may be over.
    """
    by_anyio, is_due = _is_in_cancelled_scope(), True
    while not is_over():
        is_kept_off = by_anyio and is_shielded(task)
        if is_due and not is_kept_off:
            task.cancel()
        is_due = is_kept_off
        try:
            with anyio.move_on_after(_SHIELD_CHECK if is_kept_off else None) as moment:
                moment.shield = is_kept_off  # or anyio would keep the loop busy
                await pause()
        except asyncio.CancelledError:
            by_anyio, is_due = not is_kept_off and _is_in_cancelled_scope(), True


def _is_in_cancelled_scope() -> bool:
    return anyio.current_effective_deadline() == -math.inf


def is_shielded(task: Any) -> bool:
    """Tell whether a task is where anyio would not cancel it from outside."""
    # anyio tells that of the running task only.
    states: Any = getattr(sys.modules.get("anyio._backends._asyncio"), "_task_states", {})
    scope = getattr(states.get(task), "cancel_scope", None)
    while scope is not None and not scope.shield:
        scope = getattr(scope, "_parent_scope", None)
    return scope is not None


async def hold_out(call: Call[_T], waiter: Callable[[], asyncio.Future[None]]) -> _T:
    """Wait for what a thread does, whoever cancels this task meanwhile."""
    interruption: asyncio.CancelledError | None = None
    while not call.is_over:
        # Only once interrupted: a scope costs as much as the rest. It keeps off what anyio's own
        # scopes repeat until they are left.
        scope: AbstractContextManager[object] = nullcontext()
        if interruption is not None:
            scope = anyio.CancelScope(shield=True)
        call.waiter = waiter()
        try:
            with scope:
                await call.waiter
        except asyncio.CancelledError as error:
            interruption = error
    if interruption is not None:
        raise interruption
    return call.result()
