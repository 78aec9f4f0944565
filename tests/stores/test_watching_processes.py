"""How soon the end of an operation in one process answers who waits for it in another one."""

from __future__ import annotations

import secrets
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis

from raincheck.config.options import Settings
from raincheck.contracts import Store
from raincheck.engine.engine import Engine
from raincheck.http.messages import Request
from raincheck.monitor.endpoint import StatusMonitor
from raincheck.monitor.links import Resource
from raincheck.monitor.poll import Poll
from raincheck.operations.operation import Operation, State
from raincheck.stores import open_store
from raincheck.testing.material import changed, make_operation
from tests.support.processes import ROOT
from tests.support.real_servers import postgresql_url, redis_url

pytestmark = pytest.mark.server

ROUNDS = 40
WAIT = 20.0  # seconds; nobody is to wait as long
GENEROUS = 0.5  # seconds; the machine is shared, and this is no benchmark

OTHER = """
import sys, time
from raincheck.operations.operation import State
from raincheck.stores import open_store
from tests.stores.scripts import changed
store = open_store(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    operation = store.get(line.strip())
    time.sleep(0.05)
    begin = time.monotonic()
    assert store.swap(operation, changed(operation, state=State.SUCCEEDED, updated=time.time()))
    print(begin, flush=True)
"""

HANDLER = """
import sys, time
from raincheck.engine.engine import Engine
from raincheck.config.options import Settings
from raincheck.stores import open_store
from tests.unit.engines import accept
engine = Engine(Settings(application="tests"), open_store(sys.argv[1]))
print(accept(engine).id, flush=True)
time.sleep(600)
"""

End = Callable[[str], float]  # ends the operation of that id, and returns when it did


def _in_thread(store: Store) -> End:
    def end(operation_id: str) -> float:
        operation = store.get(operation_id)
        assert operation is not None
        time.sleep(0.05)
        begin = time.monotonic()
        store.swap(operation, changed(operation, state=State.SUCCEEDED, updated=time.time()))
        return begin

    return end


def _in_process(url: str) -> Iterator[End]:
    command = [sys.executable, "-c", OTHER, url]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout
        assert stdout.readline() == "ready\n"

        def end(operation_id: str) -> float:
            stdin.write(f"{operation_id}\n")
            stdin.flush()
            return float(stdout.readline())

        yield end
        stdin.close()


def _memory(directory: Path) -> Iterator[str]:
    yield "memory:"


def _sqlite(directory: Path) -> Iterator[str]:
    yield f"sqlite://{directory / 'operations.db'}"


def _redis(directory: Path) -> Iterator[str]:
    prefix = f"watching-{secrets.token_hex(6)}"
    yield f"{redis_url()}?prefix={prefix}"
    with closing(redis.Redis.from_url(redis_url())) as client:
        for key in client.scan_iter(f"{prefix}*"):
            client.unlink(key)


def _postgresql(directory: Path) -> Iterator[str]:
    schema = f"watching_{secrets.token_hex(6)}"
    yield f"{postgresql_url()}?schema={schema}"
    with psycopg.connect(postgresql_url(), autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


@pytest.fixture(params=[_memory, _sqlite, _redis, _postgresql], ids=lambda kind: kind.__name__[1:])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield from request.param(tmp_path)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = open_store(url)
    yield store
    store.close()


@pytest.fixture
def end(url: str, store: Store) -> Iterator[End]:
    """Return what ends operations: another process, where the store reaches one."""
    if url == "memory:":
        yield _in_thread(store)
    else:
        yield from _in_process(url)


@pytest.fixture
def monitor(store: Store) -> Iterator[StatusMonitor]:
    engine = Engine(Settings(), store)
    monitor = StatusMonitor(engine)
    yield monitor
    monitor.close()
    engine.close()


def running(store: Store) -> Operation:
    """Have an operation that somebody runs, with a lease for as long as the test takes."""
    name = secrets.token_hex(16)
    fresh = make_operation(name, state=State.ACCEPTED, created=store.now(), updated=store.now())
    return store.create(fresh)


def poll(
    monitor: StatusMonitor,
    operation_id: str,
    looked: threading.Event,
    outcome: bytes = b'"succeeded"',
) -> float:
    """Wait for the end of an operation; return when it was seen.

    Args:
        looked: Is set when the operation was found to be running.
    """
    path = f"/operations/{operation_id}"
    headers = ((b"host", b"example.org"), (b"prefer", b"wait=%d" % WAIT))
    asked = Poll(Request("GET", f"{path}/status", headers=headers), operation_id, Resource.STATUS)
    answer = monitor.look(asked)
    looked.set()
    assert answer.wait == WAIT
    response = monitor.wait(asked, answer.wait)
    assert isinstance(response.body, bytes)
    assert outcome in response.body
    return time.monotonic()


def test_the_end_of_an_operation_is_seen_in_another_process_at_once(
    url: str, store: Store, monitor: StatusMonitor, end: End, capsys: pytest.CaptureFixture[str]
) -> None:
    delays = list[float]()
    for _ in range(ROUNDS):
        operation, seen, looked = running(store), list[float](), threading.Event()

        def wait(
            operation_id: str = operation.id,
            seen: list[float] = seen,
            looked: threading.Event = looked,
        ) -> None:
            seen.append(poll(monitor, operation_id, looked))

        thread = threading.Thread(target=wait)
        thread.start()
        assert looked.wait(WAIT)
        ended = end(operation.id)
        thread.join(2 * WAIT)
        delays.append(seen[0] - ended)
    middle, slow = statistics.median(delays), statistics.quantiles(delays, n=20)[-1]
    with capsys.disabled():
        name = url.partition(":")[0]
        sys.stdout.write(f"\n{name}: p50 {middle * 1e3:.1f} ms, p95 {slow * 1e3:.1f} ms\n")
    assert middle < GENEROUS


def test_progress_in_another_process_keeps_a_client_waiting_for_the_end(
    store: Store, monitor: StatusMonitor, end: End
) -> None:
    operation, seen, looked = running(store), list[float](), threading.Event()
    thread = threading.Thread(target=lambda: seen.append(poll(monitor, operation.id, looked)))
    thread.start()
    assert looked.wait(WAIT)
    for n in range(20):
        new = changed(operation, route=f"/{n}", updated=store.now())
        assert store.swap(operation, new)
        operation = new
    assert not seen
    assert end(operation.id) < time.monotonic()
    thread.join(2 * WAIT)
    assert len(seen) == 1


@pytest.mark.slow
def test_the_death_of_the_process_that_runs_an_operation_ends_the_waiting(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path / 'operations.db'}"
    command = [sys.executable, "-c", HANDLER, url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        operation_id = process.stdout.readline().strip()
        engine = Engine(Settings(application="tests"), open_store(url))
        monitor = StatusMonitor(engine)
        looked, killed = threading.Event(), list[float]()

        def kill() -> None:
            if looked.wait(WAIT):
                time.sleep(0.5)  # the client waits for long
            killed.append(time.monotonic())
            process.kill()

        killing = threading.Thread(target=kill)
        killing.start()
        seen = poll(monitor, operation_id, looked, b'"interrupted"')
        killing.join()
    assert 0 < seen - killed[0] < 0.8 * WAIT
    monitor.close()
    engine.close()
