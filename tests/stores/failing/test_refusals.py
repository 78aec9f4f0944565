"""Servers that answer, and refuse: full, read-only, overcrowded, locked, not to be written to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
from redis import Redis

from raincheck.config.options import Settings
from raincheck.contracts import Filter
from raincheck.engine.engine import MEMORY, Engine
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.operations.operation import State
from raincheck.testing.material import forgotten, make_operation
from tests.stores.failing.backends import AT_MOST, SOON, Backend, timed, works_within
from tests.stores.failing.calls import CALLS, OPERATION, use

pytestmark = pytest.mark.server

WRITES = ("create", "swap", "write_chunk", "discard", "purge")


@contextmanager
def configured(backend: Backend, **settings: str) -> Iterator[None]:
    """Change a Redis server's settings for a while."""
    with Redis.from_url(backend.server.url, decode_responses=True) as admin:
        before = admin.config_get(*settings)
        for name, value in settings.items():
            admin.config_set(name, value)
        yield
        for name, value in before.items():
            admin.config_set(name, value)


@contextmanager
def administered(backend: Backend) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Connect to a PostgreSQL server past the store."""
    with psycopg.connect(backend.server.url, autocommit=True) as admin:
        yield admin


def test_a_redis_out_of_memory_takes_nothing_and_still_answers(redis: Backend) -> None:
    store = redis.open()
    CALLS["create"].run(store)
    with configured(redis, maxmemory="1"):
        for name in ("swap", "write_chunk"):
            taken, error = timed(lambda name=name: CALLS[name].run(store))  # type: ignore[misc]
            assert error is not None, name
            assert taken < AT_MOST
        assert store.get("a") == OPERATION
    works_within(SOON, lambda: use(store, "b"))


def test_a_redis_out_of_memory_lets_what_has_expired_be_forgotten(redis: Backend) -> None:
    store = redis.open()
    for n in range(3):
        store.create(make_operation(f"{n}", state=State.SUCCEEDED, expires=1.0, fence=1))
    store.create(forgotten("old", expires=1.0))
    engine = Engine(Settings(), store)
    with configured(redis, maxmemory="1"):
        _, error = timed(lambda: CALLS["create"].run(store))
        assert error is not None
        while not engine.purge():
            pass
        assert store.find(Filter(forgotten=False)) == ([], None)
        assert store.get("old") is None
        assert store.purge(store.now() + 2 * MEMORY) == 3


def test_a_redis_that_has_become_a_replica_is_unavailable_for_writing(redis: Backend) -> None:
    store = redis.open()
    CALLS["create"].run(store)
    with Redis.from_url(redis.server.url) as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        _, error = timed(lambda: CALLS["swap"].run(store))
        assert error is not None
        admin.execute_command("REPLICAOF", "NO", "ONE")
    works_within(SOON, lambda: use(store, "b"))


def test_a_redis_that_waits_for_its_disk_is_unavailable_for_writing(redis: Backend) -> None:
    """`MISCONF`: the server refuses writes since it could not save; here, by its own rule."""
    store = redis.open()
    CALLS["create"].run(store)
    with configured(redis, **{"min-replicas-to-write": "1"}):
        _, error = timed(lambda: CALLS["swap"].run(store))
        assert error is not None
    works_within(SOON, lambda: use(store, "b"))


def test_a_redis_that_has_no_connection_left_is_unavailable(redis: Backend) -> None:
    store = redis.open()
    with ExitStack() as crowd, configured(redis, maxclients="3"):
        for _ in range(2):
            client = crowd.enter_context(Redis.from_url(redis.server.url))
            client.ping()
        _, error = timed(lambda: store.get("a"))
        assert error is not None
    works_within(SOON, lambda: use(store, "b"))


def test_a_redis_that_asks_for_a_password_is_an_error_and_no_hang(redis: Backend) -> None:
    with Redis.from_url(redis.server.url) as admin:
        admin.config_set("requirepass", "another")
        url = redis.url.replace("//", "//:wrong-secret@")
        with pytest.raises(StoreError) as caught:
            redis.open(url=url).get("a")
        assert "wrong-secret" not in str(caught.value)


def test_a_postgresql_that_only_reads_is_unavailable_for_writing(postgresql: Backend) -> None:
    store = postgresql.open()
    CALLS["create"].run(store)
    with administered(postgresql) as admin:
        admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        admin.execute("SELECT pg_reload_conf()")
        postgresql.proxy.cut()
        taken, error = timed(lambda: CALLS["swap"].run(store))
        assert error is not None
        assert taken < AT_MOST
        admin.execute("SET default_transaction_read_only = off")
        admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        admin.execute("SELECT pg_reload_conf()")
    postgresql.proxy.cut()
    works_within(SOON, lambda: use(store, "b"))


def test_locked_postgresql_tables_hang_no_call(postgresql: Backend) -> None:
    store = postgresql.open()
    CALLS["create"].run(store)
    with administered(postgresql) as admin:
        tables = admin.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        with admin.transaction():
            admin.execute(f"LOCK TABLE {', '.join(str(t[0]) for t in tables)}")
            for name in WRITES:
                taken, error = timed(lambda name=name: CALLS[name].run(store))  # type: ignore[misc]
                assert error is not None, name
                assert taken < AT_MOST, name
    works_within(SOON, lambda: use(store, "b"))


def test_a_postgresql_that_has_no_connection_left_is_unavailable(postgresql: Backend) -> None:
    store = postgresql.open()
    with ExitStack() as crowd:
        while True:
            try:
                crowd.enter_context(psycopg.connect(postgresql.server.url))
            except psycopg.OperationalError:
                break
        taken, error = timed(lambda: store.get("a"))
        assert error is not None
        assert taken < AT_MOST
    works_within(SOON, lambda: use(store, "b"))


def test_sessions_ended_by_an_administrator_cost_nothing(postgresql: Backend) -> None:
    store = postgresql.open()
    CALLS["create"].run(store)
    with administered(postgresql) as admin:
        for n in range(5):
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            use(store, f"{n}")


def test_a_postgresql_without_the_database_is_an_error_that_names_it(postgresql: Backend) -> None:
    parts = urlsplit(postgresql.url)
    store = postgresql.open(url=parts._replace(path="/nowhere").geturl())
    with pytest.raises(StoreError, match="nowhere"):
        store.get("a")


def test_a_call_is_not_made_later_that_was_given_up(redis: Backend) -> None:
    """What a hanging network delivers late must not undo what has happened since."""
    store = redis.open()
    CALLS["create"].run(store)
    with redis.proxy.failing("swallow"), pytest.raises(StoreUnavailable):
        CALLS["swap"].run(store)
    stored = works_within(SOON, lambda: store.get("a"))
    assert stored is not None
    assert stored.version in (OPERATION.version, OPERATION.version + 1)
