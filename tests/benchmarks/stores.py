"""Prints what each store can do, side by side: `python -m` this, and `--help`.

A lane is a thread that does one thing after another. All stores do the same in turns, so a row is
comparable within itself. It judges nothing.
"""

from __future__ import annotations

import multiprocessing
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import replace
from statistics import quantiles

import psycopg
import redis

from raincheck import open_store
from raincheck.config.options import Settings
from raincheck.contracts import Liveness, Store
from raincheck.engine.engine import Engine
from raincheck.errors import ConfigurationError, StoreError
from raincheck.http.messages import Request
from raincheck.monitor.endpoint import StatusMonitor
from raincheck.monitor.links import Resource
from raincheck.monitor.poll import Poll
from raincheck.operations.operation import Operation, Result, State
from raincheck.operations.transitions import Responded, advance
from tests.benchmarks.places import NO_SERVER, sqlite
from tests.benchmarks.tables import Scale, Table, choose, less, missing, more, parser
from tests.support.real_servers import postgresql_url, redis_url
from tests.unit.engines import NoHeartbeat

LANES = (1, 20)
KIB = b"x" * 1024
PIECE = 256 * 1024  # bytes, where a store has no size of its own
UNSEEN = 10.0  # seconds after which a completion counts as missed
POLL = Request("GET", "/operations/polled/status", headers=((b"host", b"example.org"),))

Step = Callable[[], object]
Lane = Callable[[Store, int], Step]  # what one lane does again and again, after a preparation


# --- stores ------------------------------------------------------------------------------------


@contextmanager
def url_of(kind: str) -> Iterator[str]:
    """Give the URL of an empty store that is deleted afterwards."""
    with _PLACES[kind](f"benchmark_{secrets.token_hex(4)}") as url:
        yield url


@contextmanager
def _in_memory(_: str) -> Iterator[str]:
    yield "memory:"


@contextmanager
def _in_redis(prefix: str) -> Iterator[str]:
    server = redis_url()
    try:
        yield f"{server}?prefix={prefix}"
    finally:
        with redis.Redis.from_url(server) as client:
            keys = list(client.scan_iter(f"*{prefix}*", count=1000))
            for start in range(0, len(keys), 1000):
                client.delete(*keys[start : start + 1000])


@contextmanager
def _in_postgresql(schema: str) -> Iterator[str]:
    server = postgresql_url()
    try:
        yield f"{server}{'&' if '?' in server else '?'}schema={schema}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())


_PLACES: dict[str, Callable[[str], AbstractContextManager[str]]] = {
    "memory": _in_memory,
    "sqlite": lambda _: sqlite(),
    "redis": _in_redis,
    "postgresql": _in_postgresql,
}


def open_all(kinds: list[str], stack: ExitStack) -> dict[str, tuple[str, Store]]:
    """Open the stores whose servers are there, and say which ones are not."""
    stores: dict[str, tuple[str, Store]] = {}
    for kind in kinds:
        try:
            url = stack.enter_context(url_of(kind))
            store = stack.enter_context(closing(open_store(url)))
            store.get("nothing")
        except (ConfigurationError, StoreError, *NO_SERVER) as error:
            missing(f"{kind}: {error}")
        else:
            stores[kind] = (url, store)
    return stores


# --- steps -------------------------------------------------------------------------------------


def new_operation(store: Store, **fields: object) -> Operation:
    """Return an operation as a request that was promoted has it."""
    now = store.now()
    operation = Operation(
        id=secrets.token_hex(16),
        state=State.RUNNING,
        created=now,
        updated=now,
        retention=86_400.0,
        method="POST",
        route="/reports",
        fence=1,
        worker=store.incarnation() if isinstance(store, Liveness) else "somebody",
        lease=now + 3600.0,
    )
    return replace(operation, **fields)  # type: ignore[arg-type]  # names are checked at run time


def create(store: Store, _: int) -> Step:
    """Keep one operation after the other."""
    return lambda: store.create(new_operation(store))


def get(store: Store, _: int) -> Step:
    """Read one operation."""
    operation = store.create(new_operation(store))
    return lambda: store.get(operation.id)


def swap(store: Store, _: int) -> Step:
    """Change one operation of this lane's own."""
    operation = store.create(new_operation(store))

    def step() -> None:
        nonlocal operation
        new = replace(operation, version=operation.version + 1, updated=store.now())
        if not store.swap(operation, new):
            raise RuntimeError("somebody else has changed this operation")
        operation = new

    return step


def finish(store: Store, number: int) -> Step:
    """End operations that were kept before, each with a response of 1 KiB."""
    running = [store.create(new_operation(store)).id for _ in range(number)]
    responded = Responded(Result(200, (), length=len(KIB), chunk_size=PIECE, fence=1))

    def step() -> None:
        operation_id = running.pop()
        store.write_chunk(operation_id, 1, 0, KIB)
        stored = store.get(operation_id)
        if stored is None or not store.swap(stored, advance(stored, responded, store.now())):
            raise RuntimeError("this operation could not be ended")

    return step


def poll(store: Store, _: int) -> Step:
    """Answer polls of the status of an operation that runs."""
    operation = store.create(new_operation(store))
    engine = Engine(Settings(), store)
    engine.heartbeat = NoHeartbeat(engine)  # it would look after thousands that only seem to run
    monitor = StatusMonitor(engine)
    asked = Poll(POLL, operation.id, Resource.STATUS)

    def step() -> None:
        if monitor.look(asked).response.status != 200:
            raise RuntimeError("a poll was not answered")

    return step


def per_second(store: Store, lane: Lane, lanes: int, count: int) -> float:
    """Let that many lanes do their step `count` times together, and return steps per second."""
    each = max(1, count // lanes)
    steps = [lane(store, each) for _ in range(lanes)]
    barrier = threading.Barrier(lanes + 1)

    def run(step: Step) -> None:
        barrier.wait()
        for _ in range(each):
            step()

    with ThreadPoolExecutor(lanes) as pool:
        futures = [pool.submit(run, step) for step in steps]
        barrier.wait()
        begin = time.perf_counter()
        for future in futures:
            future.result()
        return each * lanes / (time.perf_counter() - begin)


# --- bodies ------------------------------------------------------------------------------------


def body(store: Store, size: int) -> tuple[float, float]:
    """Write and read a body of `size` bytes; return MB/s of each."""
    piece = secrets.token_bytes(getattr(store, "chunk_size", PIECE))
    count = size // len(piece)
    begin = time.perf_counter()
    for n in range(count):
        store.write_chunk("body", 1, n, piece)
    middle = time.perf_counter()
    for read in store.read_chunks("body", 1, 0, count):
        if len(read) != len(piece):
            raise RuntimeError("a chunk is cut")
    end = time.perf_counter()
    store.discard("body")
    written = count * len(piece) / 1e6
    return written / (middle - begin), written / (end - middle)


# --- wake-up -----------------------------------------------------------------------------------


def latencies(kind: str, url: str, store: Store, number: int) -> list[float]:
    """Return ms from the end of operations, elsewhere, until it is heard of and read here."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit this one's threads
    found: list[float] = []
    with closing(store.watch(0.5)) as watch:
        next(watch)
        if kind == "memory":
            threading.Thread(target=_end, args=(store, number)).start()
        else:
            context.Process(target=_end_in_process, args=(url, number)).start()
        deadline = time.monotonic() + UNSEEN + number * 0.1
        while len(found) < number and time.monotonic() < deadline:
            heard = next(watch)
            seen = store.get(heard) if heard is not None else None
            if seen is not None and seen.route == "/watched" and seen.is_terminal:
                found.append((time.monotonic() - seen.updated) * 1000)
    return found


def _end_in_process(url: str, number: int) -> None:
    with closing(open_store(url)) as store:
        _end(store, number)


def _end(store: Store, number: int) -> None:
    """End operations now and then, and note in each when that was, by the machine's clock."""
    for n in range(number):
        old = store.create(new_operation(store, route="/watched"))
        time.sleep(0.02 + 0.04 * n / number)  # in no step with a watch that looks now and then
        done = replace(old, version=2, state=State.SUCCEEDED, updated=time.monotonic())
        store.swap(old, done)


# --- the table ---------------------------------------------------------------------------------


def main() -> None:
    """Print the table."""
    asked = parser("stores", __doc__)
    choose(asked, "--stores", _PLACES)
    arguments = asked.parse_args()
    scale = Scale(quick=arguments.quick)
    with ExitStack() as stack:
        stores = open_all(arguments.stores, stack)
        table = Table("What the stores can do", "", *stores)
        for lane in (create, get, swap, finish, poll):
            for lanes in LANES:
                _show_rates(table, stores, lane, lanes, scale.of(2000, 200))
        _show_bodies(table, stores, scale.of(100, 10))
        _show_latencies(table, stores, scale.of(200, 20))


def _show_rates(
    table: Table, stores: dict[str, tuple[str, Store]], lane: Lane, lanes: int, count: int
) -> None:
    rates = (per_second(store, lane, lanes, count) for _, store in stores.values())
    label = f"{lane.__name__}/s, {lanes} lane{'s' if lanes > 1 else ''}"
    table.row(label, *(more(rate) for rate in rates))


def _show_bodies(table: Table, stores: dict[str, tuple[str, Store]], megabytes: int) -> None:
    speeds = [body(store, megabytes * 1_000_000) for _, store in stores.values()]
    for label, column in (("write", 0), ("read", 1)):
        table.row(f"{label} {megabytes} MB, MB/s", *(more(speed[column]) for speed in speeds))


def _show_latencies(table: Table, stores: dict[str, tuple[str, Store]], number: int) -> None:
    times = [latencies(kind, url, store, number) for kind, (url, store) in stores.items()]
    shares = [quantiles(found, n=20) if len(found) > 1 else None for found in times]
    for label, n in (("p50", 9), ("p95", 18)):
        cells = (less(share[n]) if share else "-" for share in shares)
        table.row(f"end heard and read, {label}, ms", *cells)
    table.row("ends never heard of", *(f"{number - len(found)} of {number}" for found in times))


if __name__ == "__main__":
    main()
