"""The PostgreSQL store keeps the contract, also behind a pooler, and what only it promises."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from textwrap import dedent
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from raincheck.contracts import Filter, Store
from raincheck.errors import ConfigurationError, StoreError, StoreUnavailable
from raincheck.operation import Operation, Progress, State
from raincheck.stores import open_store, postgresql_connections, postgresql_schema
from raincheck.stores.postgresql import PostgreSQLStore, from_url
from raincheck.stores.postgresql_statements import as_key
from raincheck.stores.postgresql_url import parse_url
from raincheck.testing import Clock, StoreContract
from raincheck.testing.material import (
    changed,
    forgotten,
    hears,
    ids,
    in_threads,
    make_operation,
    run_in_fork,
)
from tests.stores.pgbouncer import pgbouncer
from tests.support.real_servers import postgresql_url
from tests.support.unreliable import Proxy

pytestmark = pytest.mark.server
may_fork = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
Admin = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def admin() -> Iterator[Admin]:
    with psycopg.connect(postgresql_url(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def schema(admin: Admin) -> Iterator[str]:
    """Name a schema of the test's own, which is not there yet."""
    name = f'rain "{secrets.token_hex(4)}" 100%'
    yield name
    admin.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def store_at(url: str, schema: str | None, **options: Any) -> PostgreSQLStore:
    return PostgreSQLStore(parse_url(url).parameters, schema=schema, **options)


@pytest.fixture
def store(schema: str) -> Iterator[PostgreSQLStore]:
    with closing(store_at(postgresql_url(), schema)) as store:
        yield store


@pytest.fixture
def table(schema: str) -> Callable[[str], sql.Identifier]:
    return lambda name: sql.Identifier(schema, f"raincheck_{name}")


# What scripts in other processes begin with; it imports little, as there are many of them.
LIGHT = """
import os, sys, time
from contextlib import closing
from raincheck.stores.postgresql import PostgreSQLStore
from raincheck.stores.postgresql_url import parse_url
from raincheck.operation import Operation, State
from dataclasses import replace
def make_operation(id):
    return Operation(id, State.RUNNING, 1000.0, 1000.0, 60.0, "POST", "/reports")
store = PostgreSQLStore(parse_url(os.environ["STORE"]).parameters, schema=sys.argv[1])
"""


def script(text: str) -> list[str]:
    """Return the command of a process that has `store` on the schema in its first argument."""
    return [sys.executable, "-W", "error", "-c", LIGHT + dedent(text)]


def environment() -> dict[str, str]:
    return {**os.environ, "STORE": postgresql_url()}


def ask(admin: Admin, query: sql.SQL | sql.Composed, *values: object) -> Any:
    row = admin.execute(query, values or None).fetchone()
    return row and row[0]


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what no event tells."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


# --- the contract ------------------------------------------------------------------------------


class TestPostgreSQLStore(StoreContract):
    """The contract, in a schema of its own for each test."""

    @pytest.fixture
    def store(self, schema: str, clock: Clock) -> Iterator[PostgreSQLStore]:
        with closing(store_at(postgresql_url(), schema, clock=clock)) as store:
            yield store


@pytest.fixture(scope="module")
def pooled_url() -> Iterator[str]:
    with pgbouncer(postgresql_url()) as url:
        yield url


class TestPooledPostgreSQLStore(StoreContract):
    """The contract, where each transaction has another session."""

    @pytest.fixture
    def store(self, schema: str, clock: Clock, pooled_url: str) -> Iterator[PostgreSQLStore]:
        with closing(store_at(pooled_url, schema, clock=clock)) as store:
            yield store

    def test_a_watch_hears_what_is_created_and_swapped(self, store: Store) -> None:
        with closing(store.watch(0.05)) as watch:
            assert [next(watch) for _ in range(5)] == [None] * 5
        began = time.monotonic()
        with closing(store.watch(0.05)) as watch:
            next(watch)
        assert time.monotonic() - began < 0.5, "it remembers that nothing can be heard"

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
    assert ask(admin, query)[1] > 0.95 * 600


@pytest.mark.parametrize(
    ("which", "index"),
    [
        (Filter(states=frozenset({State.RUNNING, State.CANCELLING})), "unfinished"),
        (Filter(owner="ann"), "owner"),
        (Filter(states=frozenset({State.FAILED}), expires_before=9.0, forgotten=False), "expires"),
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
        locks = "SELECT 'lock', objid::text FROM pg_locks WHERE locktype = 'advisory'"
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
    assert store.prepare()[:2] == (1, 2)
    assert store.prepare()[:2] == (2, 2)
    assert store.get("a") == kept
    with closing(store_at(postgresql_url(), schema)) as other:
        assert other._rows(f"SELECT extra FROM {other._schema.tables.operations}", {}) == [("new",)]  # noqa: S608


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
    assert store.prepare()[:2] == (1, 1)
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


# --- connections -------------------------------------------------------------------------------


@pytest.fixture
def only() -> str:
    """Name the connections of the test, so that others can be spared."""
    return f"raincheck {secrets.token_hex(4)}"


def named_url(name: str) -> str:
    return f"{postgresql_url()}?application_name={name.replace(' ', '%20')}"


def terminate(admin: Admin, name: str) -> int:
    query = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = %s"
    )
    return int(ask(admin, sql.SQL(query), name))


def test_connections_that_were_ended_while_idle_cost_one_more_attempt(
    admin: Admin, schema: str, only: str
) -> None:
    with closing(store_at(named_url(only), schema)) as store:
        in_threads(8, lambda n: store.create(make_operation(f"{n}")))
        assert terminate(admin, only) > 1
        began = time.monotonic()
        assert store.get("0") is not None
        assert time.monotonic() - began < 1.0
        assert None not in in_threads(8, lambda n: store.get(f"{n}"))


def test_a_statement_that_was_ended_in_the_middle_is_repeated(
    admin: Admin, schema: str, only: str, table: Callable[[str], sql.Identifier]
) -> None:
    with closing(store_at(named_url(only), schema)) as store:
        old = store.create(make_operation())
        with psycopg.connect(postgresql_url()) as other:
            other.execute(sql.SQL("LOCK TABLE {}").format(table("operations")))
            swapped: list[bool] = []
            swap = lambda: swapped.append(store.swap(old, changed(old, owner="ann")))  # noqa: E731
            thread = threading.Thread(target=swap)
            thread.start()
            waits = sql.SQL(
                "SELECT 1 FROM pg_stat_activity WHERE application_name = %s"
                " AND wait_event_type = 'Lock'"
            )
            until(lambda: ask(admin, waits, only))
            terminate(admin, only)
        thread.join(30)
        assert swapped == [True]


def test_a_call_that_waits_for_a_lock_ends_in_time_and_its_connection_is_replaced(
    schema: str, table: Callable[[str], sql.Identifier]
) -> None:
    with closing(store_at(postgresql_url(), schema, timeout=0.5, pool=1)) as store:
        store.create(make_operation())
        with psycopg.connect(postgresql_url()) as other:
            other.execute(sql.SQL("LOCK TABLE {}").format(table("operations")))
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="no answer in time"):
                store.get("a")
            assert time.monotonic() - began < 11.0
        until(lambda: _works(lambda: store.get("a")))


def _works(work: Callable[[], object]) -> bool:
    try:
        work()
    except StoreUnavailable:
        return False
    return True


def test_more_threads_than_connections_take_turns(schema: str, only: str, admin: Admin) -> None:
    with closing(store_at(named_url(only), schema, pool=2)) as store:
        store.prepare()
        in_threads(16, lambda n: [store.create(make_operation(f"{n} {i}")) for i in range(10)])
        query = sql.SQL("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s")
        assert ask(admin, query, only) <= 2
        store.close()
        until(lambda: ask(admin, query, only) == 0)


def test_a_server_that_refuses_is_named_without_credentials() -> None:
    with closing(from_url("postgresql://u:s3cret@127.0.0.1:1/x")) as store:
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/x") as caught:
            store.get("a")
        assert "s3cret" not in str(caught.value)


def test_a_connection_is_replaced_when_it_is_old(
    monkeypatch: pytest.MonkeyPatch, store: PostgreSQLStore
) -> None:
    query = "SELECT pg_backend_pid()"
    first = store._rows(query, {})
    assert store._rows(query, {}) == first
    monkeypatch.setattr(postgresql_connections, "LIFETIME", 0.0)
    assert store._rows(query, {}) != first


@may_fork
def test_a_fork_leaves_its_parents_connections_alone(store: PostgreSQLStore) -> None:
    query = "SELECT pg_backend_pid()"
    store.create(make_operation())
    before = store._rows(query, {})

    def work() -> None:
        assert store.get("a") is not None
        assert store._rows(query, {}) != before
        store.close()
        sys.exit(0)

    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(9)
    assert os.waitpid(pid, 0)[0] == pid
    for _ in range(3):
        assert run_in_fork(lambda: store.get("a"))
    assert store._rows(query, {}) == before


def test_a_process_that_never_closes_the_store_ends(schema: str) -> None:
    work = script("""
        store.get("a")
        if os.fork() == 0:
            store.get("a")
        else:
            os.wait()
    """)
    done = subprocess.run(
        [*work, schema], timeout=60, capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_under_gevent_a_slow_statement_holds_up_nobody(schema: str) -> None:
    work = """
        import gevent
        slow = gevent.spawn(lambda: store._rows("SELECT pg_sleep(1)", {}))
        beats = 0
        while not slow.ready():
            store.get("a")
            gevent.sleep(0.01)
            beats += 1
        slow.get()
        store.close()
        print(beats)
    """
    patched = "from gevent import monkey; monkey.patch_all()\n" + LIGHT + dedent(work)
    command = [sys.executable, "-c", patched, schema]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5


# --- races -------------------------------------------------------------------------------------


def test_of_4_processes_exactly_one_wins_each_of_300_swaps(
    schema: str, store: PostgreSQLStore
) -> None:
    operations = [store.create(make_operation(f"{n}")) for n in range(300)]
    work = script("""
        store.get("a")
        sys.stdin.readline()
        for n in range(300):
            old = make_operation(f"{n}")
            if store.swap(old, replace(old, version=2, worker=sys.argv[2])):
                print(n)
        store.close()
    """)
    racing = [
        subprocess.Popen(
            [*work, schema, f"{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        for n in range(4)
    ]
    won = [process.communicate(b"\n", timeout=60)[0].decode().split() for process in racing]
    assert sorted(chain.from_iterable(won)) == sorted(ids(operations))
    for n, mine in enumerate(won):
        assert sorted(ids(store.find(Filter(worker=f"{n}"), limit=300)[0])) == sorted(mine)


def test_two_purges_at_once_delete_each_operation_once(store: PostgreSQLStore) -> None:
    for n in range(200):
        store.create(forgotten(f"{n}"))

    def purge(_: int) -> int:
        return sum(iter(lambda: store.purge(2000.0, limit=10), 0))

    assert sum(in_threads(2, purge)) + store.purge(2000.0) == 200
    assert store.find(Filter()) == ([], None)


def test_a_body_of_many_chunks_is_deleted_in_batches(store: PostgreSQLStore) -> None:
    for n in range(600):
        store.write_chunk("a", 1, n, b"x")
    store.discard("a")
    assert store._rows(f"SELECT count(*) FROM {store._schema.tables.chunks}", {}) == [(0,)]  # noqa: S608


# --- the clock ---------------------------------------------------------------------------------


def test_the_time_is_the_servers_and_costs_no_round_trip(
    admin: Admin, store: PostgreSQLStore
) -> None:
    now = sql.SQL("SELECT extract(epoch FROM clock_timestamp())::float8")
    before = ask(admin, now)
    told = store.now()
    assert before - 0.5 <= told <= ask(admin, now) + 0.5
    store._process._connections.close()
    assert told <= store.now() <= ask(admin, now) + 0.5


def test_the_time_goes_on_while_the_server_is_down(
    schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raincheck.stores import postgresql_process

    monkeypatch.setattr(postgresql_process, "CLOCK_AGE", 0.0)
    port = int(conninfo_to_dict(postgresql_url()).get("port") or 5432)
    with Proxy(port) as proxy:
        url = make_conninfo(postgresql_url(), host="127.0.0.1", port=proxy.port)
        with closing(PostgreSQLStore(conninfo_to_dict(url), schema=schema)) as store:
            told = store.now()
            proxy.refuse()
            assert store.now() >= told
        other = PostgreSQLStore(conninfo_to_dict(url), schema=schema)
        with closing(other), pytest.raises(StoreUnavailable):
            other.now()


# --- watch -------------------------------------------------------------------------------------


def test_a_renewed_lease_wakes_nobody_and_progress_does(store: PostgreSQLStore) -> None:
    old = store.create(make_operation())
    with closing(store.watch(0.3)) as watch:
        assert next(watch) is None
        store.swap(old, renewed := changed(old, lease=5.0))
        assert next(watch) is None
        store.swap(renewed, changed(renewed, progress=Progress(1)))
        assert hears(watch, "a")


def test_a_watch_hears_another_process_soon(store: PostgreSQLStore, schema: str) -> None:
    """How soon is printed (-s), and not asserted."""
    work = script("""
        store.get("a")
        for n in range(50):
            store.create(make_operation(f"{time.monotonic()}"))
            time.sleep(0.01)
        store.close()
    """)
    late: list[float] = []
    with closing(store.watch(1.0)) as watch:
        next(watch)
        writer = subprocess.Popen([*work, schema], env=environment())
        while len(late) < 50:
            if (heard := next(watch)) is not None:
                late.append(time.monotonic() - float(heard))
        assert writer.wait(30) == 0
    print(f"create and wake-up: median {sorted(late)[25] * 1000:.1f} ms")  # noqa: T201


def test_a_watch_that_was_ended_says_so(admin: Admin, schema: str, only: str) -> None:
    with closing(store_at(named_url(only), schema)) as store, closing(store.watch(5.0)) as watch:
        assert next(watch) is None
        terminate(admin, only)
        with pytest.raises(StoreUnavailable):
            next(watch)
        with closing(store.watch(0.1)) as again:
            assert next(again) is None


def test_schemas_do_not_hear_each_other(admin: Admin, store: PostgreSQLStore) -> None:
    other_schema = f"rain_{secrets.token_hex(4)}"
    with closing(store_at(postgresql_url(), other_schema)) as other:
        try:
            with closing(store.watch(0.3)) as watch:
                next(watch)
                other.create(make_operation())
                assert next(watch) is None
        finally:
            admin.execute(f"DROP SCHEMA {other_schema} CASCADE")


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
