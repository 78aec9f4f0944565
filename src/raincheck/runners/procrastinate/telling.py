"""Telling Procrastinate's workers of an operation: one job, within seconds or not at all."""

from __future__ import annotations

from functools import partial

from raincheck.engine.per_process import PerProcess
from raincheck.runners.procrastinate.jobs import QUEUE, TASK, Jobs
from raincheck.stores.postgresql.connections import Connections
from raincheck.stores.postgresql.url import parse_url

CONNECTIONS = 4  # of one process; more who tell at a time wait for each other
PATIENCE = 4.0  # seconds for all of it: raincheck gives up soon after


class ProcrastinateWorkers:
    """Tells Procrastinate's workers of operations: a value of the option `workers`.

    Nothing is opened before the first operation; then a process has connections of its own.

    Args:
        database: URL of Procrastinate's database, `postgresql://user:password@host:5432/database`,
            with what else libpq knows, such as `?options=-csearch_path=jobs` for its schema.
        queue: Procrastinate's queue. Default: `raincheck`.
        priority: As Procrastinate counts it: the higher, the sooner. Default 0.
        task: Name of the task that `add_task` was given, should it be another than usual.

    Raises:
        ConfigurationError: The URL says something else.
    """

    def __init__(
        self, database: str, *, queue: str = QUEUE, priority: int = 0, task: str = TASK
    ) -> None:
        parameters = parse_url(database).parameters
        self._jobs = Jobs(queue=queue, priority=priority, task=task)
        self._connections = PerProcess(partial(Connections, parameters, PATIENCE, CONNECTIONS))

    def __call__(self, operation_id: str) -> None:
        """Make a job that has an operation's id and nothing else.

        Raises:
            StoreUnavailable: The database does not answer.
            StoreError: It refuses; Procrastinate's schema may be missing.
        """
        self._connections.get().run(lambda connection: self._jobs.add(connection, operation_id))
