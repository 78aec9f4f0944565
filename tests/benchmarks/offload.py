"""Handlers on workers: what is accepted, begun and completed, beside Celery by hand.

    python -m tests.benchmarks.offload [--quick]

Needs Celery and a Redis server, of which it starts its own.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen

import httpx

from tests.benchmarks.figures import Figure
from tests.benchmarks.places import start
from tests.benchmarks.tables import Scale, Table, less, more, parser
from tests.support.processes import ROOT, ServerProcess
from tests.support.real_servers import RedisServer

MODULE = "tests.benchmarks.offload_apps"
POLL = 0.02  # seconds between polls by hand, which know no better; a client of raincheck waits
AT_ONCE = 32
ONCE = 0.3  # part of a ratio by which it may differ, as it is measured once
WARM = 60.0  # seconds in which workers have begun
SPINS = 6_000_000  # about a third of a second of computing


@dataclass(frozen=True)
class Way:
    """One way to have work done elsewhere.

    Attributes:
        app: In `offload_apps`.
        path: Where it begins.
        worker: The command that runs it; None: the web process.
    """

    name: str
    app: str
    path: str
    worker: tuple[str, ...] | None = None
    store: str = "redis"


CELERY = ("-m", "celery", "-A", MODULE, "worker", "-P", "prefork", "-l", "error")
WORK = ("-m", "raincheck", "work", f"{MODULE}:on_own", "--queue", "own")
BY_HAND = Way("Celery by hand, Redis", "in_process", "/begin", CELERY)
WAYS = [
    BY_HAND,
    Way("raincheck on Celery, Redis", "on_celery", "/here", CELERY),
    Way("raincheck work, Redis", "on_own", "/here", WORK),
    Way("raincheck work, SQLite", "on_own", "/here", WORK, "sqlite"),
]


def command_of(way: Way, workers: int) -> list[str]:
    """Return what starts so many worker processes, each of which does one thing at a time."""
    assert way.worker is not None
    if way.worker is CELERY:
        return [sys.executable, *way.worker, "-c", str(workers), "-n", f"offload{time.time()}@%h"]
    return [sys.executable, *way.worker, "--concurrency", "1", "--processes", str(workers)]


@contextmanager
def running(way: Way, workers: int) -> Iterator[str]:
    """Yield the URL of a web process beside so many workers."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = redis.url if way.store == "redis" else f"sqlite://{directory}/operations.db"
        env = {"TEST_REDIS": redis.url.rpartition("/")[0], "RAINCHECK_STORE": url}
        uvicorn = f"-m uvicorn {MODULE}:{way.app} --port {{port}} --log-level error"
        web = stack.enter_context(ServerProcess([*uvicorn.split(), "--no-access-log"], env=env))
        if way.worker is not None:
            worker = Popen(
                command_of(way, workers),
                cwd=ROOT,
                env=os.environ | env,
                stdout=DEVNULL,
                stderr=DEVNULL,
            )
            stack.callback(worker.wait)
            stack.callback(worker.terminate)
        yield web.url


async def wait_for(client: httpx.AsyncClient, location: str) -> float:
    """Poll until a response is there; return when its handler began."""
    headers = {} if "/jobs/" in location else {"prefer": "wait=20"}
    while (answer := await client.get(location, headers=headers)).status_code == 202:
        if not headers:
            await asyncio.sleep(POLL)
    return float(answer.json()["begun"])


async def begin(client: httpx.AsyncClient, way: Way, seconds: float, spins: int = 0) -> str:
    """Have work begun, and return where to ask for it."""
    answer = await client.get(way.path, params={"seconds": seconds, "spins": spins})
    assert answer.status_code == 202, (answer.status_code, answer.text)
    return answer.headers["location"]


async def each(number: int, work: Callable[[], Awaitable[None]]) -> None:
    """Do something so many times, a few at once."""
    turns = iter(range(number))

    async def some() -> None:
        for _ in turns:
            await work()

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def measure(url: str, way: Way, number: int) -> tuple[float, float, float]:
    """Return accepted per second, completed per second, and the median time to a begin."""
    limits = httpx.Limits(max_connections=AT_ONCE * 2)
    async with httpx.AsyncClient(base_url=url, timeout=WARM, limits=limits) as client:
        for _ in range(8):  # until each of the workers has begun
            await wait_for(client, await begin(client, way, 0))
        lone: list[float] = []
        for _ in range(9):
            asked = time.time()
            lone.append(await wait_for(client, await begin(client, way, 0)) - asked)
        locations: list[str] = []
        start = time.perf_counter()
        await each(number, lambda: _note(begin(client, way, 0), locations))
        accepted = number / (time.perf_counter() - start)
        waiting = iter(locations)
        await each(number, lambda: _drop(wait_for(client, next(waiting))))
        return accepted, number / (time.perf_counter() - start), statistics.median(lone)


async def _note(found: Awaitable[str], notes: list[str]) -> None:
    notes.append(await found)


async def _drop(found: Awaitable[object]) -> None:
    await found


async def neighbours(url: str, way: Way, seconds: float) -> tuple[float, float]:
    """Return the median and the 99th percentile of quick requests beside what computes."""
    took: list[float] = []
    async with httpx.AsyncClient(base_url=url, timeout=WARM) as client:
        if way.worker is not None:
            await wait_for(client, await begin(client, way, 0))
        end = time.perf_counter() + seconds

        async def compute() -> None:
            while time.perf_counter() < end:
                params = {"seconds": 0, "spins": SPINS}
                answer = await client.get(way.path, params=params)
                if answer.status_code == 202:
                    await wait_for(client, answer.headers["location"])

        async def ask() -> None:
            while time.perf_counter() < end:
                asked = time.perf_counter()
                await client.get("/quick")
                took.append(time.perf_counter() - asked)
                await asyncio.sleep(0.01)

        await asyncio.gather(compute(), ask())
    cuts = statistics.quantiles(took, n=100)
    return statistics.median(took), cuts[98]


def throughput(scale: Scale) -> None:
    """Print what comes through, by the number of worker processes."""
    for workers in (2,) if scale.quick else (1, 2, 4):
        title = f"{workers} worker processes, handlers that take no time"
        table = Table(title, "", "accepted/s", "completed/s", "of by hand", "begins, ms")
        by_hand = 0.0
        for way in WAYS:
            with running(way, workers) as url:
                found = asyncio.run(measure(url, way, scale.of(600, 100)))
            accepted, completed, begun = found
            by_hand = completed if way is BY_HAND else by_hand
            ratio = Figure(completed / by_hand, "more", ".2f", is_ratio=True, noise=ONCE)
            cells = (more(accepted), more(completed), ratio)
            table.row(way.name, *cells, less(begun * 1000, ".0f"))


def latency(scale: Scale) -> None:
    """Print what computing costs its neighbours in the web process."""
    table = Table("Quick requests beside computing ones, ms", "", "median", "99 %")
    for way in (Way("in the web process", "in_process", "/here"), *WAYS[1:]):
        with running(way, 1) as url:
            median, worst = asyncio.run(neighbours(url, way, scale.of(10, 3)))
        table.row(way.name, less(median * 1000), less(worst * 1000))


def main() -> None:
    """Measure and print."""
    scale = Scale(quick=parser("offload", __doc__).parse_args().quick)
    with ExitStack() as stack:
        if start(RedisServer, stack) is None:
            return
    throughput(scale)
    latency(scale)


if __name__ == "__main__":
    main()
