"""The jobs that tell of operations, as Procrastinate keeps them in PostgreSQL."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg
from procrastinate import App, SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException

TASK = "raincheck.run"
QUEUE = "raincheck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """How jobs are made.

    Attributes:
        queue: Procrastinate's queue. Default: `raincheck`.
        priority: As Procrastinate counts it: the higher, the sooner. Default 0.
        task: Name of the task that `add_task` was given, should it be another than usual.
    """

    queue: str = QUEUE
    priority: int = 0
    task: str = TASK

    def add(self, connection: psycopg.Connection[Any], operation_id: str) -> None:
        """Make a job that has an operation's id and nothing else, unless one waits already.

        Args:
            connection: In a transaction, or each statement is one.

        Raises:
            psycopg.Error: The database does not take it.
        """
        job = _deferring().configure_task(
            self.task,
            queue=self.queue,
            priority=self.priority,
            queueing_lock=f"op:{operation_id}",
            connection=connection,
        )
        try:
            with suppress(AlreadyEnqueued):
                job.defer(operation_id=operation_id)
        except ConnectorException as error:
            if isinstance(error.__cause__, psycopg.Error):
                raise error.__cause__ from None  # Procrastinate's own says nothing of the cause
            raise


@cache
def _deferring() -> App:
    """Return an app that makes jobs through connections that it is given, and opens none."""
    return App(connector=SyncPsycopgConnector())
