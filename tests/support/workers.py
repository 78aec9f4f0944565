"""Two processes of one application in a test: one that is asked, and a worker."""

from __future__ import annotations

from typing import Any

import anyio.to_thread

from raincheck.engine.engine import Engine
from raincheck.engine.queues import Take


def run_as_worker(engine: Engine, operation_id: str) -> Take:
    """Run an operation as a worker does that is told of it; return when its handler is over."""
    rerunner = engine.recovery.rerunner
    assert rerunner is not None
    taken = engine.queues.take(operation_id)
    engine.running.wait_for(operation_id, 30)
    return taken


async def run_in_loop(engine: Engine, operation_id: str) -> Take:
    """Do the same in the running event loop."""
    rerunner: Any = engine.recovery.rerunner
    rerunner.begin()
    return await anyio.to_thread.run_sync(run_as_worker, engine, operation_id)
