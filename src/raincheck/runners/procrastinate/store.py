"""A store that makes an operation and the job that tells of it in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from raincheck.operations.operation import Operation, State
from raincheck.runners.procrastinate.jobs import Jobs
from raincheck.stores.postgresql import PostgreSQLStore, is_made
from raincheck.stores.postgresql.connections import Connection
from raincheck.stores.postgresql.statements import Values
from raincheck.stores.postgresql.url import parse_url

MOST = 10_000  # ids that are remembered for a moment


class ProcrastinateStore(PostgreSQLStore):
    """Keep operations in Procrastinate's database: there is no operation without its job.

    What waits for a moment that has not come has none yet; it is made when the moment comes, and
    so is another one where the first has got lost.

    Args:
        url: As of every PostgreSQL store. Procrastinate's tables are in the same database, and in
            a schema that the role's search path names.
        workers: How jobs are made, by the name of the workers.

    Raises:
        ConfigurationError: The URL says something else.
    """

    def __init__(self, url: str, workers: Mapping[str, Jobs]) -> None:
        parsed = parse_url(url)
        super().__init__(
            parsed.parameters, schema=parsed.schema, timeout=parsed.timeout, pool=parsed.pool
        )
        self._jobs = dict(workers)
        self._told: set[str] = set()  # ids whose jobs were made with them

    @property
    def telling(self) -> dict[str, Callable[[str], object]]:
        """The value of the option `workers`."""
        return {name: partial(self._tell, jobs) for name, jobs in self._jobs.items()}

    def _make(
        self, connection: Connection, operation: Operation, values: Values
    ) -> list[tuple[Any, ...]]:
        jobs = self._jobs.get(operation.queue or "")
        is_waiting = operation.state is State.ACCEPTED and operation.not_before is None
        if jobs is None or not is_waiting:
            return super()._make(connection, operation, values)
        with connection.transaction():
            rows = super()._make(connection, operation, values)
            if is_made(rows):
                jobs.add(connection, operation.id)
        if is_made(rows):
            self._remember(operation.id)
        return rows

    def _remember(self, operation_id: str) -> None:
        if len(self._told) >= MOST:  # of requests that were given up; to tell twice does no harm
            self._told.clear()
        self._told.add(operation_id)

    def _tell(self, jobs: Jobs, operation_id: str) -> None:
        if operation_id in self._told:
            self._told.discard(operation_id)
            return
        self._process.call(lambda connection: jobs.add(connection, operation_id))
