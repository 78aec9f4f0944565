"""The PostgreSQL server of the tests, and projects of `project` that use it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.support.processes import ServerProcess
from tests.support.real_servers import postgresql_url

MODULE = "tests.django.project"
GUNICORN = f"-m gunicorn {MODULE}:wsgi --bind 127.0.0.1:{{port}} -k gthread --threads 8"
UVICORN = f"-m uvicorn {MODULE}:asgi --port {{port}} --log-level warning"
DRAINED = UVICORN.replace(":asgi", ":drained")
SERVERS = {"gunicorn": GUNICORN, "uvicorn": UVICORN}
PATIENT = 30.0  # seconds after which a test has failed; a machine under load is slow


class Database:
    """A table of one's own, and what the server knows of those who use it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.table = f"raincheck_{uuid.uuid4().hex[:12]}"
        self._connection = connection

    def ask(self, statement: str, *values: object) -> Any:
        return self._connection.execute(statement, values).fetchone()[0]  # type: ignore[index]

    def has(self, note: str) -> bool:
        """Tell whether a row is there for everybody to see."""
        return bool(self.ask(f"SELECT count(*) FROM {self.table} WHERE note = %s", note))  # noqa: S608

    def clients(self) -> int:
        """Count the connections of the project."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        return int(self.ask(query, self.table))

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Hold up views that ask for this number."""
        number = uuid.uuid4().int % 2**31
        self.ask("SELECT pg_advisory_lock(%s)", number)
        try:
            yield number
        finally:
            self.ask("SELECT pg_advisory_unlock(%s)", number)


@contextmanager
def database() -> Iterator[Database]:
    """Connect to the server of the tests, and make a table."""
    with psycopg.connect(postgresql_url(), autocommit=True, connect_timeout=5) as connection:
        made = Database(connection)
        connection.execute(f"CREATE TABLE {made.table} (note text)")
        try:
            yield made
        finally:
            connection.execute(f"DROP TABLE {made.table}")


@contextmanager
def project(
    command: str, made: Database, store: Path, *, port: int | None = None, **chosen: Any
) -> Iterator[tuple[ServerProcess, httpx.Client]]:
    """Serve the project.

    Args:
        store: The file that operations are kept in.
        chosen: `database`, `around`, `within`, and raincheck's options.
    """
    names = ("database", "around", "within")
    outside = {name: chosen.pop(name) for name in names if name in chosen}
    options = {"STORE": f"sqlite:///{store}", "BUDGET": 0.1} | chosen
    env = {
        "DATABASE_URL": postgresql_url(),
        "TABLE": made.table,
        "PROJECT": json.dumps(outside | {"raincheck": options}),
    }
    with (
        ServerProcess(command.split(), env=env, port=port) as server,
        httpx.Client(base_url=server.url, timeout=PATIENT) as client,
    ):
        yield server, client


def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells."""
    deadline = time.monotonic() + PATIENT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
