"""Handlers on workers: what is accepted, begun and completed, beside Celery by hand.

    python -m tests.benchmarks.offload [--quick]

Needs Celery and a Redis server, of which it starts its own. All ways are measured in turns, with
workers that have all begun before; a ratio is the median of those of one turn each. Where the
processors are all that is scarce, what an operation costs them says more than what comes through.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

from tests.benchmarks.asgi_load import cpu_seconds
from tests.benchmarks.figures import of_rounds
from tests.benchmarks.offload_client import Client
from tests.benchmarks.places import start
from tests.benchmarks.tables import Scale, Table, less, more, parser
from tests.support.processes import ROOT, ServerProcess, children
from tests.support.real_servers import RedisServer

MODULES = "tests.benchmarks"
POLL = 0.05  # seconds between polls by hand, which know no better; a client of raincheck waits
AT_ONCE = 32
HELD = 0.1  # seconds for which each worker is kept busy, until all of them have been seen
WARM = 60.0  # seconds in which workers have begun
SPINS = 6_000_000  # about a third of a second of computing


@dataclass(frozen=True)
class Way:
    """One way to have work done elsewhere.

    Attributes:
        app: Module and name.
        worker: The command that runs it; empty: the web process.
        waits: Whether who polls may wait for the end.
    """

    name: str
    app: str
    worker: tuple[str, ...] = ()
    store: str = "redis"
    waits: bool = True


def _celery(module: str) -> tuple[str, ...]:
    app = f"{MODULES}.{module}:celery"
    return ("-m", "celery", "-A", app, "worker", "-P", "prefork", "-l", "error")


WORK = ("-m", "raincheck", "work", f"{MODULES}.offload_apps:on_own", "--queue", "own")
IN_PROCESS = Way("in the web process", "offload_apps:in_process")
BY_HAND = Way(
    "Celery by hand, Redis", "offload_by_hand:app", _celery("offload_by_hand"), waits=False
)
WAYS = [
    BY_HAND,
    Way("raincheck on Celery, Redis", "offload_apps:on_celery", _celery("offload_apps")),
    Way("raincheck work, Redis", "offload_apps:on_own", WORK),
    Way("raincheck work, SQLite", "offload_apps:on_own", WORK, "sqlite"),
]


@dataclass(frozen=True)
class Site:
    """A web process beside workers.

    Attributes:
        processes: Of the web, of the workers, of the server that is broker and store.
    """

    way: Way
    port: int
    processes: tuple[list[int], list[int], list[int]]

    def computed(self) -> list[float]:
        """Return how long each kind of process has computed, in seconds."""
        return [sum(map(cpu_seconds, pids)) for pids in self.processes]


@dataclass(frozen=True)
class Turn:
    """What was found in one turn.

    Attributes:
        accepted: Per second, and `completed` likewise.
        cost: Seconds of computing for each operation: of the web, the workers, the server.
    """

    accepted: float
    completed: float
    cost: list[float]


def command_of(way: Way, workers: int) -> list[str]:
    """Return what starts so many worker processes, each of which does one thing at a time."""
    if "celery" in way.worker:
        return [sys.executable, *way.worker, "-c", str(workers), "-n", f"offload{time.time()}@%h"]
    return [sys.executable, *way.worker, "--concurrency", "1", "--processes", str(workers)]


@contextmanager
def running(way: Way, workers: int) -> Iterator[Site]:
    """Yield a web process beside so many workers, all of which have begun."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = redis.url if way.store == "redis" else f"sqlite://{directory}/operations.db"
        env = {"TEST_REDIS": redis.url.rpartition("/")[0], "RAINCHECK_STORE": url}
        uvicorn = f"-m uvicorn {MODULES}.{way.app} --port {{port}} --log-level error"
        web = stack.enter_context(ServerProcess([*uvicorn.split(), "--no-access-log"], env=env))
        family: list[int] = []
        if way.worker:
            command, env = command_of(way, workers), os.environ | env
            worker = Popen(command, cwd=ROOT, env=env, stdout=DEVNULL, stderr=DEVNULL)
            stack.callback(worker.wait)
            stack.callback(worker.terminate)
            asyncio.run(warm(web.port, way, workers))
            family = [worker.pid, *children(worker.pid)]
        yield Site(way, web.port, ([web.pid], family, [redis.pid]))


async def warm(port: int, way: Way, workers: int) -> None:
    """Have work done until each of the workers has done some."""
    seen: set[int] = set()

    async def one() -> None:
        async with Client(port) as client:
            done = await wait_for(client, way, await begin(client, HELD))
            seen.add(done["worker"])

    async with asyncio.timeout(WARM):
        while len(seen) < workers:
            await asyncio.gather(*(one() for _ in range(2 * workers)))


async def begin(client: Client, seconds: float = 0, spins: int = 0) -> str:
    """Have work begun, and return where to ask for it."""
    answer = await client.ask("POST", f"/work?seconds={seconds}&spins={spins}")
    assert answer.status == 202, answer
    return answer.location


async def wait_for(client: Client, way: Way, location: str) -> dict[str, Any]:
    """Poll until a response is there, and return it."""
    fields = ("Prefer: wait=20",) if way.waits else ()
    while (answer := await client.ask("GET", location, *fields)).status == 202:
        if not way.waits:
            await asyncio.sleep(POLL)
    return answer.document()


async def each(
    port: int, number: int, work: Callable[[Client], Coroutine[Any, Any, object]]
) -> None:
    """Do something so many times, a few at once."""
    turns = iter(range(number))

    async def some() -> None:
        async with Client(port) as client:
            for _ in turns:
                await work(client)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def measure(site: Site, number: int) -> Turn:
    """Have so many operations accepted, and then wait for all of them."""
    locations: list[str] = []

    async def start(client: Client) -> None:
        locations.append(await begin(client))

    before, begun = site.computed(), time.perf_counter()
    await each(site.port, number, start)
    accepted = number / (time.perf_counter() - begun)
    waiting = iter(locations)
    await each(site.port, number, lambda client: wait_for(client, site.way, next(waiting)))
    completed = number / (time.perf_counter() - begun)
    after = site.computed()
    cost = [(b - a) / number for a, b in zip(before, after, strict=True)]
    return Turn(accepted, completed, cost)


async def lone(site: Site, number: int) -> float:
    """Return the median of seconds from a request, alone, to the begin of its work."""
    took: list[float] = []
    async with Client(site.port) as client:
        for _ in range(number):
            asked = time.time()
            done = await wait_for(client, site.way, await begin(client))
            took.append(float(done["begun"]) - asked)
    return statistics.median(took)


async def neighbours(site: Site, seconds: float) -> tuple[float, float]:
    """Return the median and the 99th percentile of quick requests beside what computes."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def compute() -> None:
        async with Client(site.port) as client:
            while time.perf_counter() < end:
                answer = await client.ask("POST", f"/work?spins={SPINS}")
                if answer.status == 202:
                    await wait_for(client, site.way, answer.location)

    async def ask() -> None:
        async with Client(site.port) as client:
            while time.perf_counter() < end:
                asked = time.perf_counter()
                await client.ask("GET", "/quick")
                took.append(time.perf_counter() - asked)
                await asyncio.sleep(0.01)

    await asyncio.gather(compute(), ask())
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


def compare(table: Table, sites: list[Site], scale: Scale) -> None:
    """Print what comes through, and what it costs, by the way in which it is done."""
    found: dict[str, list[Turn]] = {site.way.name: [] for site in sites}
    for _ in range(scale.of(5, 3)):
        for site in sites:
            found[site.way.name].append(asyncio.run(measure(site, scale.of(1000, 400))))
    by_hand = [turn.completed for turn in found[BY_HAND.name]]
    for site in sites:
        turns = found[site.way.name]
        ratios = [t.completed / b for t, b in zip(turns, by_hand, strict=True)]
        costs = [_middle(t.cost[n] for t in turns) * 1000 for n in range(3)]
        table.row(
            site.way.name,
            more(_middle(t.accepted for t in turns)),
            more(_middle(t.completed for t in turns)),
            of_rounds(ratios, "more", ".2f"),
            " + ".join(f"{cost:.1f}" for cost in costs),
            less(sum(costs), ".1f"),
            less(asyncio.run(lone(site, 25)) * 1000, ".0f"),
        )


def _middle(values: Iterator[float]) -> float:
    return statistics.median(values)


COLUMNS = ("accepted/s", "completed/s", "of by hand", "ms: web+wk+srv", "ms in all", "begins, ms")


def throughput(scale: Scale, numbers: list[int], ways: list[Way]) -> None:
    """Print it by the number of worker processes."""
    for workers in numbers:
        with ExitStack() as stack:
            sites = [stack.enter_context(running(way, workers)) for way in ways]
            title = f"{workers} worker processes, handlers that take no time"
            compare(Table(title, "", *COLUMNS), sites, scale)


def latency(scale: Scale) -> None:
    """Print what computing costs its neighbours in the web process."""
    table = Table("Quick requests beside computing ones, ms", "", "median", "99 %")
    for way in (IN_PROCESS, *WAYS[1:]):
        with running(way, 1) as site:
            median, worst = asyncio.run(neighbours(site, scale.of(10, 3)))
        table.row(way.name, less(median * 1000), less(worst * 1000))


def main() -> None:
    """Measure and print."""
    asked = parser("offload", __doc__)
    asked.add_argument("--workers", type=int, nargs="*", help="1 2 4, or quick 2")
    options = asked.parse_args()
    scale = Scale(quick=options.quick)
    with ExitStack() as stack:
        if start(RedisServer, stack) is None:
            return
    throughput(scale, options.workers or ([2] if scale.quick else [1, 2, 4]), WAYS)
    latency(scale)


if __name__ == "__main__":
    main()
