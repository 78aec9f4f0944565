"""Tasks of trio as loops need them: one that can be cancelled, and what one can wait for."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import trio


class TrioTask:
    """A system task, which may be cancelled."""

    def __init__(self, scope: trio.CancelScope, context: Context) -> None:
        self.context = context
        self.cancel = scope.cancel


class TrioWaiter:
    """What one task can await until it is woken; as much of a future of asyncio as is needed."""

    def __init__(self, trio_module: Any) -> None:
        self._trio = trio_module
        self._task: Any = None
        self._is_woken = False

    def done(self) -> bool:
        """Tell whether it has been woken."""
        return self._is_woken

    def set_result(self, _: None) -> None:
        """Let the task that awaits this go on."""
        self._is_woken = True
        if self._task is not None:
            task, self._task = self._task, None
            self._trio.lowlevel.reschedule(task)

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def _wait(self) -> None:
        if self._is_woken:
            return
        self._task = self._trio.lowlevel.current_task()

        def abort(_: object) -> Any:
            self._task = None
            return self._trio.lowlevel.Abort.SUCCEEDED

        await self._trio.lowlevel.wait_task_rescheduled(abort)
