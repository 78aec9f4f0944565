"""What stores with a server leave: no connection after `close`, no words at a process's end."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from textwrap import dedent

import psycopg
import pytest

from raincheck.contracts import Filter
from raincheck.stores import open_store
from raincheck.testing.material import changed, in_threads, make_operation
from tests.stores.failing.backends import wait_until
from tests.stores.redis.keys import keys_on
from tests.support.processes import ROOT
from tests.support.real_servers import postgresql_url, redis_url

pytestmark = pytest.mark.server
Named = tuple[str, Callable[[], int]]  # a store's URL, and how many connections there are from it


@pytest.fixture(params=["redis", "postgresql"])
def named(request: pytest.FixtureRequest) -> Iterator[Named]:
    of_kind = {"redis": _on_redis, "postgresql": _on_postgresql}
    yield from of_kind[request.param](f"leaving_{secrets.token_hex(4)}")


def _on_redis(name: str) -> Iterator[Named]:
    with keys_on(redis_url()) as keys:

        def count() -> int:
            return sum(found["name"] == name for found in keys.client.client_list())

        yield f"{keys.url}&client_name={name}&max_connections=8", count


def _on_postgresql(name: str) -> Iterator[Named]:
    with psycopg.connect(postgresql_url(), autocommit=True) as admin:

        def count() -> int:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
            row = admin.execute(query, (name,)).fetchone()
            return int(row[0]) if row else 0

        yield f"{postgresql_url()}?schema={name}&application_name={name}&pool=8", count
        admin.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


def test_50_threads_share_8_connections_and_leave_none(named: Named) -> None:
    url, count = named
    store = open_store(url)

    def use(thread: int) -> None:
        for n in range(5):
            old = store.create(make_operation(f"{thread}-{n}", owner=f"{thread}"))
            assert store.swap(old, changed(old, lease=5.0))
        assert len(store.find(Filter(owner=f"{thread}"))[0]) == 5

    with ExitStack() as stack:
        for watch in [store.watch(0.1) for _ in range(2)]:
            next(stack.enter_context(closing(watch)))
        in_threads(50, use)
        assert 3 <= count() <= 10
    store.close()
    wait_until(lambda: count() == 0)


def test_a_store_may_be_closed_while_others_use_it(named: Named) -> None:
    url, count = named
    store = open_store(url)

    def use(thread: int) -> None:
        for n in range(20):
            if thread == 0:
                store.close()
            else:
                assert store.create(make_operation(f"{thread}-{n}")).id == f"{thread}-{n}"

    in_threads(8, use)
    store.close()
    wait_until(lambda: count() == 0)


def test_a_process_ends_in_silence_with_watches_and_threads_that_go_on(named: Named) -> None:
    url, count = named
    script = """
        import sys, threading
        from raincheck.stores import open_store
        from tests.stores.scripts import make_operation

        store = open_store(sys.argv[1])
        store.create(make_operation())
        heard = threading.Barrier(4)

        def watch():
            for n, _ in enumerate(store.watch(0.01)):
                if n == 1: heard.wait(30)

        def use():
            heard.wait(30)
            while True: store.get("a")

        for work in (watch, use, use):
            threading.Thread(target=work, daemon=True).start()
        heard.wait(30)
    """
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", dedent(script), url]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    wait_until(lambda: count() == 0)
