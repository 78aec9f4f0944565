"""The task by which Celery's workers run operations, in any of its pools.

It is acknowledged before it runs: who keeps the operation is the store, and what a worker takes
with it is told of again. To have the broker do that too would bring its timeouts with it.
"""

from __future__ import annotations

import threading
from typing import Any

from celery import shared_task, signals

from raincheck.engine.per_process import PerProcess
from raincheck.errors import ConfigurationError
from raincheck.runners.celery.shutdown import Shutdown
from raincheck.runners.worker import Worker

TASK = "raincheck.run"
# Seconds. Celery has no word for none: without a number its `task_time_limit` counts, and kills
# the process. How long a handler may run says raincheck's option `timeout`.
FOREVER = 10 * 365 * 24 * 3600
OPTIONS = {
    "bind": True,
    "acks_late": False,
    "ignore_result": True,
    "max_retries": None,
    "time_limit": FOREVER,
    "soft_time_limit": FOREVER,
}
PREFETCHED = "worker_prefetch_multiplier"  # what a worker keeps from the others while it is busy
_SHUTDOWN = Shutdown()
_RUNNERS: dict[str, _Runner] = {}  # by the name of the task


def add_task(application: str | object, celery: Any = None, *, name: str = TASK) -> Any:
    """Have Celery's workers run the operations of an application.

    Args:
        application: The web application as its server is given it, with the middleware:
            `module:app`, or `module:factory()`, which a worker's process imports when it is told
            of the first operation; or the application itself.
        celery: The Celery app. Default: every one of the process, as with `shared_task`.
        name: Of the task; where the same workers serve several applications each has its own.

    Returns:
        Celery's task.

    Raises:
        ConfigurationError: A task of that name runs another application.
    """
    # Celery knows a task by its function: one that is added again has to be the same.
    runner = _RUNNERS.setdefault(name, _Runner(application))
    if runner.application != application:
        raise ConfigurationError(
            f"the task {name!r} runs {runner.application!r}: give that of {application!r} another "
            "name, here and in CeleryWorkers(task=…)"
        )
    decorate = shared_task if celery is None else celery.task
    return decorate(name=name, **OPTIONS)(runner.task)


def _prefetch_one(conf: Any, **_: Any) -> None:
    """Have a worker take no more than it runs, unless its settings say how many."""
    if not conf.value_set_for(PREFETCHED):
        conf[PREFETCHED] = 1


def _need_no_limit(instance: Any, **_: Any) -> None:
    """Set no limit where there is none: for each task a worker keeps a timer until it is due."""
    if instance.time_limit is None and instance.soft_time_limit is None:
        for name in set(_RUNNERS).intersection(instance.app.tasks):
            task = instance.app.tasks[name]
            task.time_limit = task.soft_time_limit = None


signals.celeryd_init.connect(_prefetch_one)
signals.celeryd_after_setup.connect(_need_no_limit)


class _Runner:
    """Runs operations in the processes of a Celery worker, until these are to end.

    Attributes:
        task: The function of Celery's task.
    """

    def __init__(self, application: str | object) -> None:
        def run(task: Any, operation_id: str) -> str:
            return self._run(task, operation_id)

        self.application = application
        self.task = run  # no method: Celery would have it bound to its task
        self._worker = Worker(application)
        self._watcher = PerProcess(self._watch)
        signals.worker_process_shutdown.connect(self._close)
        signals.worker_shutdown.connect(self._close)

    def _run(self, task: Any, operation_id: str) -> str:
        if _SHUTDOWN.has_begun():
            raise task.retry(countdown=0)  # by another worker: this one listens no more
        self._watcher.get()
        return self._worker.run(operation_id).value

    def _watch(self) -> threading.Thread:
        def close_in_time() -> None:
            _SHUTDOWN.wait()
            self._close()

        thread = threading.Thread(target=close_in_time, name="raincheck-shutdown", daemon=True)
        thread.start()
        return thread

    def _close(self, **_: Any) -> None:
        self._worker.close()
