"""Running an operation by its id: all that any engine's task has to call."""

from __future__ import annotations

from collections.abc import Hashable

from raincheck.engine.per_process import PerProcess
from raincheck.runners.worker import Worker


class _Workers:
    """The workers of one process, one for each application."""

    def __init__(self) -> None:
        self._of: dict[Hashable, Worker] = {}

    def of(self, application: str | object) -> Worker:
        key = application if isinstance(application, str) else id(application)
        return self._of.setdefault(key, Worker(application))

    def close(self) -> None:
        for worker in list(self._of.values()):
            worker.close()


_WORKERS = PerProcess(_Workers)


def run_operation(application: str | object, operation_id: str, *, close: bool = False) -> None:
    """Run an operation that this process was told of; return when its handler is over.

    Nothing happens if there is nothing to do any more: it has ended, or another process runs it.
    So an engine may tell of it twice, late, or never.

    Args:
        application: The web application as its server is given it, with the middleware:
            `module:app`, or `module:factory()`, which is imported when it is needed first and
            started once in a process; or the application itself.
        operation_id: What the option `workers` was called with.
        close: Whether to shut the application down again, in a process that is made for one
            operation and ends without saying so; it can run no other one then. Others do it when
            they end.

    Raises:
        ConfigurationError: The application can't be loaded, or no raincheck is around it.
        LifespanFailed: It could not be started up.
        StoreError: The store can't be asked. The operation waits, and is told of again.
    """
    worker = _WORKERS.get().of(application)
    try:
        worker.run(operation_id)
    finally:
        if close:
            worker.close()


async def arun_operation(application: str | object, operation_id: str) -> None:
    """Do the same without keeping an event loop.

    Args:
        application: As of `run_operation`; its own event loop is in another thread.
        operation_id: What the option `workers` was called with.

    Raises:
        ConfigurationError: The application can't be loaded, or no raincheck is around it.
        LifespanFailed: It could not be started up.
        StoreError: The store can't be asked. The operation waits, and is told of again.
    """
    await _WORKERS.get().of(application).arun(operation_id)


def close_applications() -> None:
    """Let what runs here end, within the option `drain`, and shut all applications down.

    A process does so by itself when it ends, where it can: some are killed soon, and from Python
    3.12 on no thread can be started then.
    """
    _WORKERS.get().close()
