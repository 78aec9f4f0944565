"""The task by which Procrastinate's workers run operations: a coroutine, so many run at a time."""

from __future__ import annotations

import asyncio
from typing import Any

from procrastinate.job_context import AbortReason

from raincheck.runners.by_id import arun_operation, close_applications
from raincheck.runners.procrastinate.jobs import QUEUE, TASK


def add_task(
    application: str | object, procrastinate: Any, *, queue: str = QUEUE, name: str = TASK
) -> Any:
    """Have Procrastinate's workers run the operations of an application.

    Args:
        application: The web application as its server is given it, with the middleware:
            `module:app`, or `module:factory()`, which a worker's process imports when it is told
            of the first operation; or the application itself.
        procrastinate: Procrastinate's `App`, with an async connector, or a `Blueprint`.
        queue: Procrastinate's queue, which jobs name for themselves.
        name: Of the task; where the same workers serve several applications each has its own.

    Returns:
        Procrastinate's task.
    """

    async def run(context: Any, operation_id: str) -> None:
        try:
            await arun_operation(application, operation_id)
        except asyncio.CancelledError:
            if context.abort_reason() is AbortReason.SHUTDOWN:
                # Not at the process's end: no thread can be started then, from Python 3.12 on.
                await asyncio.shield(asyncio.to_thread(close_applications))
            raise

    # No retry: who tells again is raincheck, once a lease has run out.
    return procrastinate.task(name=name, queue=queue, retry=False, pass_context=True)(run)
