"""A PostgreSQL schema of a test's own: stores in it, and processes that use it."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from textwrap import dedent
from typing import Any

import psycopg
from psycopg import sql

from raincheck.stores.postgresql import PostgreSQLStore
from raincheck.stores.postgresql.url import parse_url
from tests.support.real_servers import postgresql_url

Admin = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def administering() -> Iterator[Admin]:
    """Supply a connection that goes past the store."""
    with psycopg.connect(postgresql_url(), autocommit=True) as connection:
        yield connection


@contextmanager
def new_schema(admin: Admin) -> Iterator[str]:
    """Name a schema of the test's own, which is not there yet, and leave nothing of it."""
    name = f'rain "{secrets.token_hex(4)}" 100%'
    yield name
    admin.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def store_at(url: str, schema: str | None, **options: Any) -> PostgreSQLStore:
    """Return a store in a schema."""
    return PostgreSQLStore(parse_url(url).parameters, schema=schema, **options)


def table_of(schema: str) -> Callable[[str], sql.Identifier]:
    """Return what names the tables of a schema."""
    return lambda name: sql.Identifier(schema, f"raincheck_{name}")


# What scripts in other processes begin with; it imports little, as there are many of them.
LIGHT = """
import os, sys, time
from contextlib import closing
from raincheck.stores.postgresql import PostgreSQLStore
from raincheck.stores.postgresql.url import parse_url
from raincheck.operations.operation import (Operation, State)
from dataclasses import replace
def make_operation(id):
    return Operation(id, State.RUNNING, 1000.0, 1000.0, 60.0, "POST", "/reports")
store = PostgreSQLStore(parse_url(os.environ["STORE"]).parameters, schema=sys.argv[1])
"""


def script(text: str) -> list[str]:
    """Return the command of a process that has `store` on the schema in its first argument."""
    return [sys.executable, "-W", "error", "-c", LIGHT + dedent(text)]


def environment() -> dict[str, str]:
    """Return the environment of such a process."""
    return {**os.environ, "STORE": postgresql_url()}


def ask(admin: Admin, query: sql.SQL | sql.Composed, *values: object) -> Any:
    """Return the first value of a query's first row; None if there is none."""
    row = admin.execute(query, values or None).fetchone()
    return row and row[0]


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what no event tells."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
