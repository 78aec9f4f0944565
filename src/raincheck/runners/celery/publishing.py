"""Telling Celery's workers of an operation: one small message, within seconds or not at all."""

from __future__ import annotations

from typing import Any

from kombu.pools import ProducerPool

from raincheck.engine.per_process import PerProcess
from raincheck.errors import ConfigurationError, abbreviate
from raincheck.inspection.check import TARGET, load
from raincheck.runners.celery.task import TASK

CONNECTIONS = 10  # to the broker, of one process; more who tell at a time wait for each other
PATIENCE = 4.0  # seconds that they wait
# Without these a client of Redis waits for ever for a server that hangs, and one of RabbitMQ does
# not learn that a message was refused. What the Celery app says of its own counts.
BOUNDS: dict[str, dict[str, Any]] = {
    "redis": {"socket_timeout": 2.0, "socket_connect_timeout": 2.0},
    "amqp": {"confirm_publish": True, "read_timeout": 4.0, "write_timeout": 4.0},
}
# A connection of before may be gone; without a policy kombu goes on trying for six seconds.
ONCE_MORE = {"max_retries": 1, "interval_start": 0, "interval_step": 0}


class CeleryWorkers:
    """Tells Celery's workers of operations: a value of the option `workers`.

    Nothing is imported or opened before the first operation; then a process has connections of its
    own, so that no setting of the Celery app is changed by it.

    Args:
        celery: The Celery app, or `module:app`, which is imported when it is needed first.
        queue: Celery's queue. Default: as the app's `task_routes` and `task_default_queue` say.
        priority: Of the message, as the broker counts it. Default: none.
        task: Name of the task that `add_task` has been given, should it be another than usual.

    Raises:
        ConfigurationError: `celery` is a text that names nothing.
    """

    def __init__(
        self,
        celery: Any,
        *,
        queue: str | None = None,
        priority: int | None = None,
        task: str = TASK,
    ) -> None:
        if isinstance(celery, str) and not TARGET.fullmatch(celery):
            raise ConfigurationError(f"{celery!r} names no Celery app: write module:app")
        self._celery = celery
        self._task = task
        said = {"queue": queue, "priority": priority}
        self._options = {name: value for name, value in said.items() if value is not None}
        self._producers = PerProcess(self._connect)

    def __call__(self, operation_id: str) -> None:
        """Publish a message that has an operation's id and nothing else.

        Raises:
            kombu.exceptions.OperationalError: The broker does not take it.
            NotLoadedError: There is no such Celery app.
        """
        with self._producers.get().acquire(block=True, timeout=PATIENCE) as producer:
            self._app().send_task(
                self._task,
                args=(operation_id,),
                argsrepr=f"({abbreviate(operation_id)!r},)",  # monitors of Celery show it
                producer=producer,
                ignore_result=True,
                retry=True,
                retry_policy=ONCE_MORE,
                **self._options,
            )

    def close(self) -> None:
        """Close the connections of this process; the next operation opens others."""
        if (producers := self._producers.take()) is not None:
            producers.connections.force_close_all()

    def _app(self) -> Any:
        return load(self._celery) if isinstance(self._celery, str) else self._celery

    def _connect(self) -> ProducerPool:
        """Return what opens connections when they are needed, and no more often."""
        connection = self._app().connection_for_write()
        bounds = BOUNDS.get(connection.transport.driver_type, {})
        connection.transport_options = {**bounds, **connection.transport_options}
        return ProducerPool(connections=connection.Pool(CONNECTIONS), limit=CONNECTIONS)
