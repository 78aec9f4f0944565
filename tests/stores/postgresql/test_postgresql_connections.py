"""A PostgreSQL store's connections, forks, races, clock and watches."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import chain
from textwrap import dedent

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from raincheck.contracts import Filter
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import Progress
from raincheck.stores import server_clock
from raincheck.stores.postgresql import PostgreSQLStore, from_url
from raincheck.stores.postgresql import connections as postgresql_connections
from raincheck.testing.material import (
    changed,
    forgotten,
    hears,
    ids,
    in_threads,
    make_operation,
    run_in_fork,
)
from tests.stores.postgresql.schemas import (
    LIGHT,
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
WAITING = sql.SQL(
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
)
may_fork = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


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
    admin: Admin, schema: str, only: str, table: Callable[[str], sql.Identifier]
) -> None:
    with closing(store_at(named_url(only), schema)) as store:
        in_threads(8, lambda n: store.create(make_operation(f"{n}")))
        times = []
        for _ in range(3):  # a machine under load may hold up one of them for long
            with psycopg.connect(postgresql_url()) as other:  # or one connection might do for all
                other.execute(sql.SQL("LOCK TABLE {}").format(table("operations")))
                threads = [threading.Thread(target=store.get, args=(f"{n}",)) for n in range(8)]
                for thread in threads:
                    thread.start()
                until(lambda: ask(admin, WAITING, only) > 1)
            for thread in threads:
                thread.join()
            assert terminate(admin, only) > 1
            began = time.monotonic()
            assert store.get("0") is not None
            times.append(time.monotonic() - began)
        assert min(times) < 1.0
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
            until(lambda: ask(admin, WAITING, only))
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
        slow = gevent.spawn(lambda: store._rows("SELECT pg_sleep(3)", {}))
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
    monkeypatch.setattr(server_clock, "CLOCK_AGE", 0.0)
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
