"""A store that is emptied while an operation runs: in its own process it is never unknown."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from raincheck.config.options import Settings
from raincheck.engine.engine import Engine
from raincheck.stores import open_store
from raincheck.stores.objects import with_bodies_at
from tests.support.real_servers import postgresql_url, redis_url
from tests.unit.engines import accept, answer, body, poll

Flushed = tuple[str, Callable[[], None]]


def emptied_sqlite(directory: Path) -> Iterator[Flushed]:
    path = directory / "operations.db"

    def flush() -> None:
        with closing(sqlite3.connect(path)) as other:
            for table in ("operations", "requests", "chunks", "changes"):
                other.execute(f"DELETE FROM {table}")  # noqa: S608
            other.commit()

    yield f"sqlite://{path}", flush


def replaced_sqlite(directory: Path) -> Iterator[Flushed]:
    path = directory / "operations.db"

    def flush() -> None:
        for file in directory.glob("operations.db*"):
            if file.is_file() and file.suffix != ".db-processes":
                file.unlink()

    yield f"sqlite://{path}", flush


def flushed_redis(directory: Path) -> Iterator[Flushed]:
    prefix = f"flushed-{secrets.token_hex(6)}"

    def flush() -> None:  # of what may be others' server, not all
        with redis.Redis.from_url(redis_url()) as other:
            for key in other.scan_iter(f"*{prefix}*"):
                other.delete(key)

    yield f"{redis_url()}?prefix={prefix}", flush
    flush()


def truncated_postgresql(directory: Path) -> Iterator[Flushed]:
    with _schema() as (schema, admin):
        statement = f"TRUNCATE {schema}.raincheck_operations CASCADE"
        yield f"{postgresql_url()}?schema={schema}", lambda: _do(admin, statement)


def dropped_postgresql(directory: Path) -> Iterator[Flushed]:
    with _schema() as (schema, admin):
        statement = f"DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}"
        yield f"{postgresql_url()}?schema={schema}", lambda: _do(admin, statement)


Admin = psycopg.Connection[tuple[object, ...]]


@contextmanager
def _schema() -> Iterator[tuple[str, Admin]]:
    schema = f"flushed_{secrets.token_hex(6)}"
    with psycopg.connect(postgresql_url(), autocommit=True) as admin:
        _do(admin, f"CREATE SCHEMA {schema}")
        yield schema, admin
        _do(admin, f"DROP SCHEMA {schema} CASCADE")


def _do(admin: Admin, statement: str) -> None:
    admin.execute(statement.encode())


KINDS = [emptied_sqlite, replaced_sqlite, flushed_redis, truncated_postgresql, dropped_postgresql]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def flushed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Flushed]:
    yield from request.param(tmp_path)


@pytest.mark.server
@pytest.mark.parametrize("has_objects", [False, True], ids=["", "with objects"])
def test_an_operation_that_runs_here_is_never_unknown_whatever_its_store_forgot(
    flushed: Flushed, has_objects: bool
) -> None:
    url, flush = flushed
    store = with_bodies_at(open_store(url), "memory:///") if has_objects else open_store(url)
    engine = Engine(Settings(), store)
    operation = accept(engine, owner="anne")
    flush()
    assert poll(engine, operation.id, owner="bob").status == 404
    assert poll(engine, operation.id, owner="anne").status == 202
    engine.finish(operation, answer(operation))
    assert body(engine, poll(engine, operation.id, owner="anne")) == b"done"
    engine.close()
