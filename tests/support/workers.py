"""Two processes of one application in a test: one that is asked, and a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


class IsWorker:
    """Whether what runs is to say that it is a worker, as one process is both in a test."""

    def __init__(self) -> None:
        self._is_worker = False

    def __call__(self) -> bool:
        return self._is_worker

    @contextmanager
    def set(self) -> Iterator[None]:
        """Be a worker meanwhile."""
        self._is_worker = True
        try:
            yield
        finally:
            self._is_worker = False


is_worker = IsWorker()
