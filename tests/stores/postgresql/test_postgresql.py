"""The PostgreSQL store keeps the contract, also behind a pooler; its tables, and who makes them."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from raincheck.contracts import Filter, Store
from raincheck.errors import ConfigurationError, StoreError, StoreUnavailable
from raincheck.operations.operation import TERMINAL, Operation, Progress, State
from raincheck.operations.records import encode
from raincheck.operations.store import KEPT_AGE
from raincheck.stores import open_store, postgresql
from raincheck.stores.postgresql import PostgreSQLStore
from raincheck.stores.postgresql import schema as postgresql_schema
from raincheck.stores.postgresql.statements import as_key
from raincheck.stores.postgresql.url import parse_url
from raincheck.testing import Clock, StoreContract
from raincheck.testing.material import changed, forgotten, ids, make_operation
from tests.stores.postgresql.pgbouncer import pgbouncer
from tests.stores.postgresql.schemas import (
    Admin,
    ask,
    environment,
    script,
    store_at,
    until,
)
from tests.support.real_servers import postgresql_url
from tests.support.unreliable import Proxy

pytestmark = pytest.mark.server


# --- the contract ------------------------------------------------------------------------------


class TestPostgreSQLStore(StoreContract):
    """The contract, in a schema of its own for each test."""

    @pytest.fixture
    def store(self, schema: str, clock: Clock) -> Iterator[PostgreSQLStore]:
        with closing(store_at(postgresql_url(), schema, clock=clock)) as store:
            yield store

    def test_a_value_that_was_not_kept_for_long_is_deleted(
        self, store: PostgreSQLStore, clock: Clock
    ) -> None:
        assert store.keep("old", None, b"1")
        clock.now += KEPT_AGE
        assert store.keep("used", None, b"1")
        store.purge(clock.now)
        assert (store.recall("old"), store.recall("used")) == (None, b"1")


@pytest.fixture(scope="module")
def pooled_url() -> Iterator[str]:
    with pgbouncer(postgresql_url()) as url:
        yield url


@pytest.mark.slow
class TestPooledPostgreSQLStore(StoreContract):
    """The contract, where each transaction has another session."""

    @pytest.fixture
    def store(self, schema: str, clock: Clock, pooled_url: str) -> Iterator[PostgreSQLStore]:
        with closing(store_at(pooled_url, schema, clock=clock)) as store:
            yield store

    @pytest.fixture(autouse=True)
    def _soon_deaf(self, monkeypatch: pytest.MonkeyPatch, patient_listeners: None) -> None:
        monkeypatch.setattr(postgresql, "SELF_TEST", 1.0)

    def test_a_watch_hears_what_is_created_and_swapped(self, store: Store) -> None:
        with closing(store.watch(0.05)) as watch:
            assert [next(watch) for _ in range(5)] == [None] * 5
        with pytest.MonkeyPatch.context() as patch, closing(store.watch(0.05)) as watch:
            patch.setattr(postgresql, "SELF_TEST", 60.0)
            began = time.monotonic()
            next(watch)
        assert time.monotonic() - began < 30.0, "it remembers that nothing can be heard"

    @pytest.mark.skip("nothing can be heard here: the test above says what happens instead")
    def test_a_watch_hears_other_threads_while_it_waits(self, store: Store) -> None: ...

    @pytest.mark.skip("nothing can be heard here")
    def test_a_watch_can_be_closed_and_begun_again(self, store: Store) -> None: ...

    @pytest.mark.skip("nothing can be heard here")
    def test_a_watch_that_nobody_reads_holds_nobody_up(self, store: Store) -> None: ...

    @pytest.mark.skip("nothing can be heard here")
    def test_a_watch_hears_other_processes(self, store: Store, shared: bool) -> None: ...


# --- what is in the tables ---------------------------------------------------------------------


def test_renewing_a_lease_touches_no_index(
    admin: Admin, store: PostgreSQLStore, table: Callable[[str], sql.Identifier]
) -> None:
    query = sql.SQL(
        "SELECT array[n_tup_upd, n_tup_hot_upd] FROM pg_stat_user_tables WHERE relid = {}::regclass"
    ).format(table("operations").as_string(admin))
    operations = [store.create(make_operation(f"{n}", owner="ann")) for n in range(20)]
    for n in range(30):
        renewed = [changed(o, lease=1000.0 + n, progress=Progress(n)) for o in operations]
        for old, new in zip(operations, renewed, strict=True):
            assert store.swap(old, new)
        operations = renewed
    store.close()  # a session tells its counts at its end
    until(lambda: ask(admin, query)[0] == 600)
    # An index would make it none; a snapshot that somebody else on the server holds, fewer.
    assert ask(admin, query)[1] > 300


@pytest.mark.parametrize(
    ("which", "index"),
    [
        (Filter(states=frozenset({State.RUNNING, State.CANCELLING})), "unfinished"),
        (Filter(states=frozenset({State.ACCEPTED})), "unfinished"),
        (Filter(states=TERMINAL, lease_before=9.0), "due"),
        (Filter(owner="ann"), "owner"),
        (Filter(states=frozenset({State.FAILED}), expires_before=9.0, forgotten=False), "promised"),
    ],
)
def test_what_is_often_looked_for_is_found_by_an_index(
    admin: Admin,
    store: PostgreSQLStore,
    table: Callable[[str], sql.Identifier],
    which: Filter,
    index: str,
) -> None:
    store.get("a")
    many = sql.SQL("""
        INSERT INTO {} (id, version, state, created, owner, expires, forgotten, document)
        SELECT n::text, 1, 'succeeded', n, 'o' || n, n, false, '' FROM generate_series(1, 20000) n
    """)
    admin.execute(many.format(table("operations")))
    admin.execute(sql.SQL("ANALYZE {}").format(table("operations")))
    statement, values = store._statements.find(which, None)
    plan = admin.execute(f"EXPLAIN {statement}", values | {"limit": 101}).fetchall()
    assert f"raincheck_operations_{index}" in "\n".join(line for (line,) in plan)


@pytest.mark.parametrize("text", ["", "ann", "a b/c%d", "x" * 1000])
def test_ordinary_text_is_its_own_key(text: str) -> None:
    assert as_key(text) == text


def test_any_text_has_a_key_of_its_own_that_any_index_takes() -> None:
    long = "x" * 1000
    texts = ["\0", "\\u0000", "\ud800", "ü", "\\u00fc", '"', long, f"{long}a", f"{long}b"]
    keys = [as_key(text) for text in texts]
    keys.append(as_key(keys[-1]))
    assert len(set(keys)) == len(keys)
    assert all(key.isascii() and "\0" not in key and len(key) < 2000 for key in keys)


def test_very_long_ids_owners_and_keys_are_kept(store: PostgreSQLStore) -> None:
    long = "ü" * 10_000
    operation = make_operation(long, owner=long)
    with closing(store.watch(0.05)) as watch:
        next(watch)
        assert store.create(operation, dedupe=long) == operation
    assert store.get(long) == operation
    assert store.find(Filter(owner=long))[0] == [operation]
    assert store.create(make_operation("b"), dedupe=long) == operation


def test_nothing_is_left_in_a_session(admin: Admin, store: PostgreSQLStore) -> None:
    def settings(connection: Admin) -> list[tuple[Any, ...]]:
        where = "source = 'session' AND name NOT IN ('transaction_isolation')"
        named = "SELECT 'prepared', name FROM pg_prepared_statements"
        own = "locktype = 'advisory' AND pid = pg_backend_pid()"  # others share the server
        locks = f"SELECT 'lock', objid::text FROM pg_locks WHERE {own}"  # noqa: S608
        query = f"SELECT name, setting FROM pg_settings WHERE {where} UNION {named} UNION {locks}"  # noqa: S608
        return connection.execute(f"{query} UNION SELECT 'on', pg_listening_channels()").fetchall()

    for n in range(20):
        store.swap(old := store.create(make_operation(f"{n}")), changed(old, owner="ann"))
        store.write_chunk(f"{n}", 1, 0, b"x")
        store.purge(2000.0)
    assert store._process.call(settings) == []


# --- who may make the tables, and when ---------------------------------------------------------


def test_eight_processes_that_begin_at_once_make_the_tables_once(schema: str) -> None:
    work = script("""
        sys.stdin.readline()
        store.create(make_operation(sys.argv[2]))
        store.close()
    """)
    started = [
        subprocess.Popen([*work, schema, f"{n}"], stdin=subprocess.PIPE, env=environment())
        for n in range(8)
    ]
    for process in started:
        process.communicate(b"\n", timeout=60)
    assert [process.returncode for process in started] == [0] * 8
    with closing(store_at(postgresql_url(), schema)) as store:
        assert sorted(ids(store.find(Filter())[0])) == [f"{n}" for n in range(8)]


@contextmanager
def role(admin: Admin, *grants: str) -> Iterator[str]:
    """Make a role that may do no more than `grants` say; yield a URL for it."""
    name = f"raincheck_{secrets.token_hex(4)}"
    admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 's3cret'")
    try:
        for grant in grants:
            admin.execute(f"GRANT {grant} TO {name}")
        known = conninfo_to_dict(postgresql_url())
        host, port = known.get("host", "127.0.0.1"), known.get("port", 5432)
        yield f"postgresql://{name}:s3cret@/{known['dbname']}?host={host}&port={port}"
    finally:
        admin.execute(f"DROP OWNED BY {name} CASCADE")
        admin.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize("named", [False, True])
def test_a_role_that_may_make_no_tables_is_told_what_to_do(
    admin: Admin, schema: str, named: bool
) -> None:
    admin.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    with role(admin) as url, closing(store_at(url, schema if named else None)) as store:
        with pytest.raises(StoreError, match="raincheck store init URL") as caught:
            store.create(make_operation())
        assert not isinstance(caught.value, StoreUnavailable)
        assert "CREATE" in str(caught.value)
        assert "s3cret" not in str(caught.value)


def test_a_role_may_use_the_tables_that_another_has_made(admin: Admin, schema: str) -> None:
    with closing(store_at(postgresql_url(), schema)) as store:
        store.prepare()
    quoted = sql.Identifier(schema).as_string(admin)
    with role(admin, f"USAGE ON SCHEMA {quoted}") as url:
        with closing(store_at(url, schema)) as store, pytest.raises(StoreError, match="grant"):
            store.get("a")
        name = parse_url(url).parameters["user"]
        privileges = "SELECT, INSERT, UPDATE, DELETE"
        admin.execute(f"GRANT {privileges} ON ALL TABLES IN SCHEMA {quoted} TO {name}")
        with closing(store_at(url, schema)) as store:
            store.swap(old := store.create(forgotten("a")), changed(old, expires=5.0))
            store.write_chunk("a", 1, 0, b"x")
            assert store.purge(10.0) == 1


def test_a_newer_schema_is_refused(
    admin: Admin, store: PostgreSQLStore, table: Callable[[str], sql.Identifier]
) -> None:
    store.prepare()
    admin.execute(sql.SQL("UPDATE {} SET version = 99").format(table("schema")))
    store.close()
    with pytest.raises(StoreError, match="upgrade raincheck"):
        store.get("a")


def test_an_older_schema_is_brought_up_to_date_and_keeps_what_it_has(
    monkeypatch: pytest.MonkeyPatch, schema: str, store: PostgreSQLStore
) -> None:
    kept = store.create(make_operation())
    store.close()
    step = ("ALTER TABLE {operations} ADD COLUMN extra text DEFAULT 'new'",)
    monkeypatch.setattr(postgresql_schema, "STEPS", [*postgresql_schema.STEPS, step])
    now = len(postgresql_schema.STEPS)
    assert store.prepare()[:2] == (now - 1, now)
    assert store.prepare()[:2] == (now, now)
    assert store.get("a") == kept
    with closing(store_at(postgresql_url(), schema)) as other:
        assert other._rows(f"SELECT extra FROM {other._schema.tables.operations}", {}) == [("new",)]  # noqa: S608


def test_tables_of_version_1_are_brought_up_to_date_with_what_is_in_them(
    monkeypatch: pytest.MonkeyPatch,
    admin: Admin,
    schema: str,
    table: Callable[[str], sql.Identifier],
) -> None:
    running = make_operation("a", lease=5.0)
    with monkeypatch.context() as patch, closing(store_at(postgresql_url(), schema)) as older:
        patch.setattr(postgresql_schema, "STEPS", postgresql_schema.STEPS[:1])
        assert older.prepare()[:2] == (0, 1)
    insert = sql.SQL("""
        INSERT INTO {} (id, version, state, created, lease, forgotten, dedupe, document)
        VALUES ('a', 1, 'running', 1000, 5, false, 'key', {})
    """)
    admin.execute(insert.format(table("operations"), sql.Literal(encode(running))))
    with closing(store_at(postgresql_url(), schema)) as store:
        assert store.get("a") == running
        assert store.find(Filter(states=TERMINAL, lease_before=9.0)) == ([], None)
        new = changed(running, state=State.FAILED, lease=6.0)
        assert store.swap(running, new, drop_dedupe=True)
        assert store.find(Filter(states=TERMINAL, lease_before=6.0))[0] == [new]


def test_a_step_that_fails_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, store: PostgreSQLStore
) -> None:
    store.prepare()
    step = ("DELETE FROM {chunks}", "SELECT 1 / 0")
    store.write_chunk("a", 1, 0, b"x")
    with monkeypatch.context() as patch:
        patch.setattr(postgresql_schema, "STEPS", [*postgresql_schema.STEPS, step])
        with pytest.raises(StoreError, match="division by zero"):
            store.prepare()
    assert store.prepare()[0] == len(postgresql_schema.STEPS)
    assert list(store.read_chunks("a", 1, 0, 1)) == [b"x"]


def test_tables_that_were_dropped_are_made_again(
    admin: Admin, schema: str, store: PostgreSQLStore
) -> None:
    store.create(make_operation())
    admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    assert store.get("a") is None
    admin.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(schema, "raincheck_schema")))
    with pytest.raises(StoreError, match="already exists"):
        store.prepare()


# --- URLs --------------------------------------------------------------------------------------


def test_construction_opens_nothing() -> None:
    with Proxy(1) as proxy:
        store = open_store(f"postgresql://u@127.0.0.1:{proxy.port}/x")
        store.close()
        assert proxy.accepted == 0


def test_a_url_says_what_is_ours_and_what_is_libpqs() -> None:
    url = "postgres://u:p%23@h1:1,h2:2/db?schema=a%20b&sslmode=require&timeout=2.5&pool=3"
    parsed = parse_url(url)
    assert parsed[1:] == ("a b", 2.5, 3)
    assert parsed.parameters["host"] == "h1,h2"
    assert parsed.parameters["password"] == "p#"  # noqa: S105
    assert parsed.parameters["sslmode"] == "require"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cret@h/db?password2=s3cret",
        "postgresql://u:s3cret@h/db?schema=",
        "postgresql://u:s3cret@h/db?schema=a&schema=b",
        "postgresql://u:s3cret@h/db?schema=" + "x" * 64,
        "postgresql://u:s3cret@h/db?schema=%00",
        "postgresql://u:s3cret@h/db?timeout=0",
        "postgresql://u:s3cret@h/db?timeout=nan",
        "postgresql://u:s3cret@h/db?timeout=11",
        "postgresql://u:s3cret@h/db?timeout=s3cret",
        "postgresql://u:s3cret@h/db?pool=0",
        "postgresql://u:s3cret@h/db?pool=-1",
        "postgresql://u:s3cret@h/db?pool=s3cret",
        "postgresql://u:s3cret@[::1/db",
        "postgresql://u:s3cret%zz@h/db",
        "postgresql:u:s3cret@h",
    ],
)
def test_a_url_that_is_wrong_shows_no_secret(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_record_is_one_of_ours(store: PostgreSQLStore) -> None:
    assert isinstance(store.create(make_operation()), Operation)
    assert not hasattr(store, "lives"), "other machines' processes can't be seen"
