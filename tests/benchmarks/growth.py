"""Prints what grows with finished operations, and with those in flight: `python -m` this.

Each column is a store that was filled directly; one process looks after it, whose handlers do
nothing. The last rows are measured while others accept and poll. It judges nothing.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from statistics import median
from typing import IO, Any

from raincheck import open_store
from raincheck.config.options import Settings
from raincheck.contracts import Filter, Store
from raincheck.engine.engine import Engine
from raincheck.engine.outbox import Ending
from raincheck.engine.running import RunningOperation
from raincheck.engine.start import Start
from raincheck.http.messages import Request
from raincheck.monitor.endpoint import StatusMonitor
from raincheck.monitor.links import Resource
from raincheck.monitor.poll import Poll
from raincheck.operations.operation import IN_FLIGHT, Operation, Reason, Result, State
from raincheck.operations.records import encode
from raincheck.operations.transitions import Responded
from raincheck.stores.postgresql import PostgreSQLStore
from raincheck.stores.postgresql.statements import to_values
from raincheck.stores.redis import RedisStore
from raincheck.stores.sqlite import SQLiteStore
from tests.benchmarks.figures import Figure
from tests.benchmarks.places import STORES
from tests.benchmarks.stores import new_operation, open_all
from tests.benchmarks.tables import Table, choose, less, parser
from tests.unit.engines import NoHeartbeat

APPLICATION = "growth"
BATCH = 5_000
PAUSE = 0.01  # seconds between what one of the others does and the next
WATCHED = 3.0  # seconds of others' lives, where nothing else ends before
LIMITS = {"operations": 1_000_000, "operations_in_store": 10_000_000}
DEAD = "0"  # a worker that nobody is

Column = list[str | Figure]


# --- filling -----------------------------------------------------------------------------------


def fill(store: Store, operations: Iterator[Operation]) -> None:
    """Put operations into a store, many at a time."""
    batch: list[Operation] = []
    for operation in operations:
        batch.append(operation)
        if len(batch) == BATCH:
            _put(store, batch)
            batch = []
    _put(store, batch)


def _put(store: Store, batch: list[Operation]) -> None:
    if isinstance(store, SQLiteStore):
        _put_into_sqlite(store, batch)
    elif isinstance(store, RedisStore):
        _put_into_redis(store, batch)
    elif isinstance(store, PostgreSQLStore):
        _put_into_postgresql(store, batch)
    else:
        for operation in batch:
            store.create(operation)


def _put_into_sqlite(store: SQLiteStore, batch: list[Operation]) -> None:
    from raincheck.stores.sqlite import _COLUMNS, _row

    rows = [(operation.id, *_row(operation)) for operation in batch]
    marks = ", ".join("?" * (1 + len(_COLUMNS.split(","))))
    insert = f"INSERT INTO operations (id, {_COLUMNS}) VALUES ({marks})"  # noqa: S608
    store._database.write(lambda connection: connection.executemany(insert, rows))


def _put_into_redis(store: RedisStore, batch: list[Operation]) -> None:
    commands: list[tuple[Any, ...]] = []
    for operation in batch:
        commands += [entry.add() for entry in store._names.entries(operation)]
        record = store._names.record(operation.id)
        commands.append(("HSET", record, *store._fields(operation, encode(operation), None)))
    store._server.commands(commands)


def _put_into_postgresql(store: PostgreSQLStore, batch: list[Operation]) -> None:
    rows = [to_values(operation) for operation in batch]
    if not rows:
        return
    names = list(rows[0])
    table = store._schema.tables.operations
    copy = f"COPY {table} ({', '.join(names)}) FROM STDIN"

    def work(connection: Any) -> None:
        with connection.cursor().copy(copy) as rest:
            for row in rows:
                rest.write_row([row[name] for name in names])

    store.get("")  # the tables have to be there
    store._process.call(work)


def fill_finished(store: Store, count: int) -> None:
    """Put finished operations into a store; SQLite copies one, as that is fastest."""
    if not isinstance(store, SQLiteStore):
        fill(store, finished(store, count))
        return
    [one] = finished(store, 1)
    store.create(one)
    columns = "version, state, owner, queue, worker, lease, forgotten, application_name, dedupe"
    copy = f"""
        WITH RECURSIVE number (n) AS (SELECT ? UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?)
        INSERT INTO operations (id, created, expires, document, {columns})
        SELECT printf('%032x', n), created - n, expires + n,
               replace(document, id, printf('%032x', n)), {columns}
        FROM number, operations WHERE id = ?"""  # noqa: S608
    for start in range(1, count, 20_000):
        values = (start, min(count, start + 20_000), one.id)
        store._database.write(lambda connection, values=values: connection.execute(copy, values))  # type: ignore[misc]  # a default binds them


def finished(store: Store, count: int) -> Iterator[Operation]:
    """Make operations that ended within the last day and expire tomorrow."""
    now = store.now()
    result = Result(200, ((b"content-type", b"application/json"),), 0, 262_144, fence=1)
    for n in range(count):
        yield _ours(
            store,
            created=now - 86_400 * n / count,
            updated=now,
            state=State.SUCCEEDED,
            result=result,
            owner=f"owner {n % 1000}",
            lease=None,
            expires=now + 86_400 + n,
        )


def _ours(store: Store, **fields: Any) -> Operation:
    return new_operation(store, application=f"{APPLICATION}\n", **fields)


# --- one process -------------------------------------------------------------------------------


@dataclass
class Idle:
    """A handler that does nothing."""

    is_stranded: bool = False

    def request_cancel(self) -> None:
        """Do nothing."""

    def give_up(self, reason: Reason) -> None:
        """Do nothing."""


@dataclass
class Rerunner:
    """Runs again what it is given, and ends it: at once, in a thread."""

    engine: Engine
    given: list[Operation] = field(default_factory=list)
    is_ready: bool = True
    needs_loop: bool = False

    def begin(self) -> None: ...

    def drain(self) -> None: ...

    def rerun(self, operation: Operation, request: Request, body: IO[bytes]) -> Idle:
        """Take note of it."""
        body.close()
        self.given.append(operation)
        return Idle()


def open_engine(store: Store) -> Engine:
    """Return an engine whose heart beats when it is told to."""
    settings = Settings(application=APPLICATION, limits=LIMITS)
    engine = Engine(settings, store)
    engine.heartbeat = NoHeartbeat(engine)
    engine.application.come_in_at("")
    return engine


def take_off(engine: Engine, count: int) -> None:
    """Put as many operations in flight."""
    worker = engine._process.worker
    flying = [_ours(engine.store, worker=worker, owner="busy") for _ in range(count)]
    fill(engine.store, iter(flying))
    for operation in flying:
        engine.running.add(RunningOperation(operation, Idle()))


def accept(engine: Engine) -> Operation:
    """Accept one, as a request does that is deferred."""
    start = Start(method="POST", route="/reports", owner="ada")
    return engine.accept(Idle(), start).operation


def poll(engine: Engine, operation: Operation) -> None:
    """Answer a poll of its status."""
    request = Request("GET", "/", headers=((b"host", b"example.org"),))
    StatusMonitor(engine).look(Poll(request, operation.id, Resource.STATUS, lambda: "ada"))


def end(engine: Engine, operation: Operation) -> None:
    """End one with an empty response."""
    result = Result(200, (), 0, 262_144, operation.fence)
    engine.finish(operation, Ending(Responded(result)))


# --- measuring ---------------------------------------------------------------------------------


def ms(work: Callable[[], object], times: int) -> float:
    """Return the median of what it takes, in milliseconds."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begun) * 1000)
    return median(taken)


class Others:
    """Accept and poll in a thread of their own, and note how long it takes."""

    def __init__(self, engine: Engine) -> None:
        self.taken: list[float] = []
        self._engine = engine
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._live)

    def __enter__(self) -> Others:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _live(self) -> None:
        while not self._is_over.wait(PAUSE):
            begun = time.perf_counter()
            operation = accept(self._engine)
            poll(self._engine, operation)
            self.taken.append((time.perf_counter() - begun) * 1000)
            end(self._engine, operation)

    @property
    def shown(self) -> str:
        """The 99th percentile and the worst, ms."""
        taken = sorted(self.taken)
        return f"{taken[len(taken) * 99 // 100]:,.0f}/{taken[-1]:,.0f}" if taken else "-"


def purge_all(engine: Engine) -> float:
    """Purge until nothing is left, and return seconds."""
    begun = time.perf_counter()
    while not engine.purge():
        pass
    return time.perf_counter() - begun


def rerun_all(engine: Engine, count: int) -> float:
    """Leave operations of a process that died, and return seconds until the last is begun."""
    store, left = engine.store, []
    for _ in range(count):
        operation = _ours(
            store, method="GET", worker=DEAD, lease=store.now() - 1, repeatable=True, captured=True
        )
        left.append(store.create(operation, Request("GET", "/reports")))
    rerunner = Rerunner(engine)
    engine.recovery.rerunner = rerunner
    engine.health._steady_since, engine.health._answered_at = store.now() - 60, store.now()
    begun = time.perf_counter()
    while len(rerunner.given) < count and time.perf_counter() - begun < 600:
        engine.recover()
        engine.beat()
    taken = time.perf_counter() - begun
    for operation in rerunner.given:
        end(engine, operation)
    engine.recovery.rerunner = None
    return taken


def column(url: str, finished_count: int, flying: int, arguments: argparse.Namespace) -> Column:
    """Fill a store and measure it."""
    with closing(open_store(url)) as store, closing(open_engine(store)) as engine:
        begun = time.monotonic()
        fill_finished(store, finished_count)
        print(f"filled in {time.monotonic() - begun:.0f} s", file=sys.stderr)
        take_off(engine, flying)
        all_, hers = Filter(states=IN_FLIGHT), Filter(IN_FLIGHT, "busy", application=APPLICATION)
        running, times = accept(engine), arguments.times
        engine.recover(), engine.purge()  # what is done once
        cells: Column = [
            less(ms(lambda: accept(engine), times), ".2f"),
            less(ms(lambda: poll(engine, running), times), ".2f"),
            less(ms(lambda: engine.repository.count(all_, 10**7), times), ".2f"),
            less(ms(lambda: engine.repository.count(hers, 10**7), times), ".2f"),
            less(ms(engine.beat, 9)),
            less(ms(engine.recover, 9)),
            less(ms(engine.purge, 9)),
        ]
        with Others(engine) as others:
            time.sleep(WATCHED / 3)
        cells.append(others.shown)
        expired = (
            replace(it, owner=None, expires=store.now() - 1 - n)
            for n, it in enumerate(finished(store, arguments.expired))
        )
        fill(store, expired)
        with Others(engine) as others:
            cells.append(less(purge_all(engine)))
        cells.append(others.shown)
        with Others(engine) as others:
            cells.append(less(rerun_all(engine, arguments.reruns)))
        return [*cells, others.shown]


ROWS = (
    "accept, ms",
    "poll, ms",
    "count all in flight, ms",
    "count one owner's, ms",
    "beat, ms",
    "sweep, ms",
    "purge of nothing, ms",
    "others' p99/worst, ms",
    "purge of {expired:,}, s",
    "others' p99/worst meanwhile, ms",
    "last of {reruns:,} re-run, s",
    "others' p99/worst meanwhile, ms",
)


def main() -> None:
    """Print a table for each store."""
    arguments = _parse()
    logging.disable(logging.WARNING)  # each that is run again is told of
    pairs = [(size, flying) for flying in arguments.in_flight for size in arguments.finished]
    for kind in arguments.stores:
        columns = []
        for size, flying in pairs:
            with ExitStack() as stack:
                opened = open_all([kind], stack)
                if kind not in opened:
                    break
                columns.append(column(opened[kind][0], size, flying, arguments))
                shown = " ".join(map(str, columns[-1]))
                print(f"{kind}: {size:,} finished, {flying:,} in flight: {shown}", flush=True)
        if columns:
            heads = (f"{size:,}+{flying:,}" for size, flying in pairs)
            table = Table(f"{kind}: finished + in flight", "", *heads)
            for n, row in enumerate(ROWS):
                table.row(row.format(**vars(arguments)), *(cells[n] for cells in columns))


def _numbers(text: str) -> list[int]:
    return [int(float(number)) for number in text.split(",")]


def _parse() -> argparse.Namespace:
    asked = parser("growth", __doc__)
    some: dict[str, Any] = {"type": _numbers, "metavar": "N,..."}
    asked.add_argument("--finished", default=[1_000, 10_000, 100_000, 1_000_000], **some)
    asked.add_argument("--in-flight", default=[0, 10_000], **some)
    asked.add_argument("--expired", type=int, default=10_000, help="to be purged, in between")
    asked.add_argument("--reruns", type=int, default=5_000, help="left by a process that died")
    asked.add_argument("--times", type=int, default=200, help="that each small thing is done")
    choose(asked, "--stores", STORES)
    arguments = asked.parse_args()
    if arguments.quick:
        arguments.finished, arguments.in_flight = [1_000, 10_000], [1_000]
        arguments.expired, arguments.reruns, arguments.times = 1_000, 500, 50
    return arguments


if __name__ == "__main__":
    main()
