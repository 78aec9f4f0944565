"""Prints how much is accepted and completed: `python -m tests.benchmarks.deferring`, and `--help`.

Clients begin as much as they can, of a handler that answers at once; what counts is over when the
last one has ended. All ways do the same work, behind the same client, in turns: raincheck with each
store, and what people write by hand. The bare application answers 200. Workers are as many as each
kind starts by default. Express's handler waits for 50 ms, as none is deferred there that does not;
its CPU, and its own bare row, are Node's. It judges nothing: goals stand beside what was measured.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from tests.benchmarks import deferring_apps as apps
from tests.benchmarks.asgi_apps import ITEM
from tests.benchmarks.asgi_load import CONNECTIONS, cpu_seconds, load, request
from tests.benchmarks.asgi_timing import ASYNC, per_second
from tests.benchmarks.places import STORES, start, urls
from tests.benchmarks.tables import Scale, Table, choose, less, missing, more, parser, ratio
from tests.runners.engines.sites import Worker
from tests.support.processes import ServerProcess
from tests.support.real_servers import RedisServer

MODULE = "tests.benchmarks.deferring_{}"
EXPRESS = Path(__file__).with_name("express")
GOALS = {"memory": 4_000, "sqlite": 2_000, "redis": 1_200, "postgresql": 1_000}
WARM = 200  # requests before the first that counts
PATIENCE = 120.0  # seconds after which what has not ended is lost
WORKERS = {
    "celery": ("-m", "celery", "-A", MODULE.format("celery"), "worker", "--loglevel", "error"),
    "dramatiq": ("-m", "dramatiq", MODULE.format("dramatiq"), "--skip-logging"),
}


@dataclass
class Series:
    """What was measured of one way: how many per second, and CPU seconds of each.

    Attributes:
        pids: Of the processes that do it; a store's or a broker's server is none of them.
    """

    port: int
    pids: Sequence[int]
    path: str = ITEM
    headers: tuple[str, ...] = ()
    status: int = 202
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def warm_up(self) -> None:
        """Do it until all of its processes have begun."""
        load(self.port, request(self.path, *self.headers), WARM, status=self.status)
        self._wait()

    def measure(self, seconds: int) -> None:
        """Begin as much as there is time for, and wait for the end of all."""
        before, begin = self._cpu(), time.perf_counter()
        number = per_second(self.port, self.path, seconds, self.status, self.headers) * seconds
        self._wait()
        self.rates.append(number / (time.perf_counter() - begin))
        self.costs.append((self._cpu() - before) / number)

    def _cpu(self) -> float:
        return sum(map(cpu_seconds, self.pids))

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.status == 202 and (left := self._in_flight()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{left} have not ended")
            time.sleep(0.005)

    def _in_flight(self) -> int:
        return int(httpx.get(f"http://127.0.0.1:{self.port}{apps.IN_FLIGHT}", timeout=60).text)


# --- the ways ----------------------------------------------------------------------------------


def serve(app: str, stack: ExitStack, **environment: str) -> ServerProcess:
    """Start a server of an application here."""
    command = (
        f"-m uvicorn {MODULE.format(app)} --factory --port {{port}} --loop uvloop "
        "--http httptools --no-access-log --log-level error --timeout-keep-alive 60"
    )
    return stack.enter_context(ServerProcess(command.split(), env=environment))


def raincheck(store: str, stack: ExitStack) -> Series | None:
    """Start a server with raincheck on a store."""
    if not (found := urls([store], stack)):
        return None
    server = serve("apps:raincheck", stack, **{apps.STORE: found[store]})
    return Series(server.port, [server.pid], headers=(ASYNC,))


def background(_: str, stack: ExitStack) -> Series:
    """Start FastAPI alone."""
    server = serve("apps:background", stack)
    return Series(server.port, [server.pid])


def by_hand(kind: str, stack: ExitStack) -> Series | None:
    """Start FastAPI beside Celery's or Dramatiq's workers."""
    if importlib.util.find_spec(kind) is None:
        missing(f"{kind}: pip install {kind}[redis]")
        return None
    if (redis := start(RedisServer, stack)) is None:
        return None
    environment = {apps.REDIS: redis.url.rpartition("/")[0]}
    server = serve(f"{kind}:create", stack, **environment)
    worker = stack.enter_context(Worker(WORKERS[kind], env=environment))
    series = Series(server.port, [server.pid])
    series.warm_up()
    series.pids = [server.pid, *worker.family]
    return series


class NodeProcess(ServerProcess):
    """A server that Node runs."""

    def __init__(self, *command: str) -> None:
        super().__init__(command)
        self._command[0] = "node"


def express(path: str, stack: ExitStack) -> Series | None:
    """Start Express with express-delayed-response, or without."""
    if not has_express():
        return None
    server = stack.enter_context(NodeProcess(str(EXPRESS / "server.js"), "{port}"))
    return Series(server.port, [server.pid], path, status=202 if path == ITEM else 200)


def has_express() -> bool:
    """Install the npm packages if need be; tell whether they are there, and say what is not."""
    if not (shutil.which("node") and shutil.which("npm")):
        missing("node and npm, for express-delayed-response")
        return False
    if not (EXPRESS / "node_modules").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
        done = subprocess.run(command, cwd=EXPRESS, capture_output=True, text=True)
        if done.returncode:
            missing(f"what npm installs for express-delayed-response: {done.stderr.strip()}")
            return False
    return True


@dataclass(frozen=True)
class Way:
    """How to have work done after the answer.

    Attributes:
        start: Starts its server, with an argument of its own.
    """

    name: str
    start: Callable[[str, ExitStack], Series | None]
    argument: str = ""


WAYS = {
    **{store: Way(f"raincheck, {store}", raincheck, store) for store in STORES},
    "background": Way("BackgroundTasks and a dict", background),
    "celery": Way("Celery and Redis by hand", by_hand, "celery"),
    "dramatiq": Way("Dramatiq and Redis by hand", by_hand, "dramatiq"),
    "express-bare": Way("Express, bare", express, "/bare"),
    "express": Way("express-delayed-response", express, ITEM),
}


# --- the table ---------------------------------------------------------------------------------


def main() -> None:
    """Print the table."""
    asked = parser("deferring", __doc__)
    choose(asked, "--ways", WAYS)
    given = asked.parse_args()
    deferring(Scale(quick=given.quick), given.ways)


def deferring(scale: Scale, ways: list[str]) -> None:
    """Print operations per second that are accepted and completed, and what each costs."""
    rounds, seconds = scale.of(5, 3), scale.of(4, 1)
    with ExitStack() as stack:
        server = serve("apps:bare", stack)
        bare = Series(server.port, [server.pid], status=200)
        found = {
            way: series for way in ways if (series := WAYS[way].start(WAYS[way].argument, stack))
        }
        for series in (bare, *found.values()):
            series.warm_up()
        for _ in range(rounds):
            for series in (bare, *found.values()):
                series.measure(seconds)
    table = Table(
        "Accepted and completed",
        *("way", "per second", "goal", "of bare", "CPU, us", "CPU of bare"),
        detail=f"one web process, {CONNECTIONS} connections, {rounds} rounds of {seconds} s",
    )
    _show(table, "FastAPI, bare", bare, bare)
    for way, series in found.items():
        _show(table, WAYS[way].name, series, bare, f"{GOALS[way]:,}" if way in GOALS else "")


def _show(table: Table, name: str, series: Series, bare: Series, goal: str = "") -> None:
    rates = (more(median(series.rates)), goal, ratio(series.rates, bare.rates, "more", ".3f"))
    costs = ratio(series.costs, bare.costs, "less", ".1f")
    table.row(name, *rates, less(median(series.costs) * 1e6, ",.0f"), costs)


if __name__ == "__main__":
    main()
