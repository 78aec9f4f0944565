"""A schema of its own for each test, and a store in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from psycopg import sql

from raincheck.stores.postgresql import PostgreSQLStore
from tests.stores.postgresql.schemas import Admin, administering, new_schema, store_at, table_of
from tests.support.real_servers import postgresql_url


@pytest.fixture
def admin() -> Iterator[Admin]:
    with administering() as connection:
        yield connection


@pytest.fixture
def schema(admin: Admin) -> Iterator[str]:
    with new_schema(admin) as name:
        yield name


@pytest.fixture
def store(schema: str) -> Iterator[PostgreSQLStore]:
    with closing(store_at(postgresql_url(), schema)) as store:
        yield store


@pytest.fixture
def table(schema: str) -> Callable[[str], sql.Identifier]:
    return table_of(schema)
