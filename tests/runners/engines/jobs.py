"""A PostgreSQL schema of a test's own with Procrastinate's tables in it, and its jobs."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from procrastinate import App, SyncPsycopgConnector

from raincheck.operations.operation import Operation, State
from tests.support.real_servers import postgresql_url


@dataclass
class Database:
    """Where Procrastinate keeps its jobs, and raincheck may keep operations."""

    url: str

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return what a statement finds."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def jobs(self, status: str | None = None) -> list[str]:
        """Return the ids of operations that there are jobs for, oldest first."""
        rows = self.rows(
            "SELECT args ->> 'operation_id', status FROM procrastinate_jobs ORDER BY id"
        )
        return [told for told, its in rows if status in (None, its)]

    def operations(self) -> list[str]:
        """Return the ids of all operations."""
        return [row[0] for row in self.rows("SELECT id FROM raincheck_operations ORDER BY created")]


def waiting(operation_id: str, **more: Any) -> Operation:
    """Return an operation that waits for workers."""
    values: dict[str, Any] = {"queue": "workers", "lease": 1060.0} | more
    state = values.pop("state", State.ACCEPTED)
    return Operation(operation_id, state, 1000.0, 1000.0, 60.0, "POST", "/reports", **values)


@contextmanager
def database(*, is_empty: bool = False) -> Iterator[Database]:
    """Supply a schema with Procrastinate's tables, or empty, and leave nothing of it."""
    name = f"jobs_{secrets.token_hex(4)}"
    with psycopg.connect(postgresql_url(), autocommit=True) as admin:
        admin.execute(f"CREATE SCHEMA {name}".encode())
        try:
            url = f"{postgresql_url()}?options=-csearch_path%3D{name}"
            if not is_empty:
                _make_tables(url)
            yield Database(url)
        finally:
            admin.execute(f"DROP SCHEMA {name} CASCADE".encode())


def _make_tables(url: str) -> None:
    app = App(connector=SyncPsycopgConnector(conninfo=url, min_size=1))
    with app.open():
        app.schema_manager.apply_schema()
