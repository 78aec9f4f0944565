"""Prints what polls cost beside a bare route: `python -m tests.benchmarks.polls`, and `--help`.

One uvicorn process each, of which the bare one answers from a Starlette route; they are asked in
turns. The rate is that of one server process; its CPU does not count the store's server. It judges
nothing: goals stand beside what was measured.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

import httpx

from tests.benchmarks.asgi_apps import ITEM, Target
from tests.benchmarks.asgi_load import cpu_seconds, serve
from tests.benchmarks.asgi_timing import per_second
from tests.benchmarks.places import urls
from tests.benchmarks.tables import Scale, Table, choose, less, more, parser, ratio

RESOURCES = ("R running", "R finished", "M")
GOALS = {
    "memory": (0.7, 0.6, 0.7),
    "sqlite": (0.6, 0.5, 0.6),
    "redis": (0.3, 0.3, 0.3),
    "postgresql": (0.3, 0.3, 0.3),
}


@dataclass
class Series:
    """What was measured of one path: requests per second, and CPU seconds of each."""

    port: int
    pid: int
    path: str
    status: int = 200
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def measure(self, seconds: int) -> None:
        """Ask for so long."""
        before, begin = cpu_seconds(self.pid), time.perf_counter()
        rate = per_second(self.port, self.path, seconds, self.status)
        elapsed = time.perf_counter() - begin
        self.rates.append(rate)
        self.costs.append((cpu_seconds(self.pid) - before) / (rate * elapsed))


def main() -> None:
    """Print the table."""
    asked = parser("polls", __doc__)
    choose(asked, "--stores", GOALS)
    given = asked.parse_args()
    polls(Scale(quick=given.quick), given.stores)


def polls(scale: Scale, stores: list[str]) -> None:
    """Print requests/s of polls as a ratio to a bare route, and CPU likewise."""
    rounds, seconds = scale.of(7, 3), scale.of(2, 1)
    table = Table(
        "Polls",
        *("store, resource", "requests/s", "ratio", "at least", "CPU, us", "CPU ratio"),
        detail=f"one uvicorn process, 32 connections, {rounds} rounds of {seconds} s",
    )
    for store in stores:
        with ExitStack() as stack:
            if not (found := urls([store], stack)):
                continue
            bare, each = _start(found[store], stack)
            for _ in range(rounds):
                for series in (bare, *each):
                    series.measure(seconds)
        _show(table, f"{store}, bare", bare, bare, None)
        for name, series, goal in zip(RESOURCES, each, GOALS[store], strict=True):
            _show(table, f"{store}, {name}", series, bare, goal)


def _show(table: Table, label: str, series: Series, bare: Series, goal: float | None) -> None:
    limit = "" if goal is None else f"{goal:.1f}"
    used = less(median(series.costs) * 1e6, ".0f")
    rates = (more(median(series.rates)), ratio(series.rates, bare.rates, "more"), limit)
    table.row(label, *rates, used, ratio(series.costs, bare.costs, "less"))


def _start(url: str, stack: ExitStack) -> tuple[Series, list[Series]]:
    bare = stack.enter_context(serve(Target("Starlette")))
    server = stack.enter_context(serve(Target("held", "raincheck", {"store": url})))
    address = f"http://127.0.0.1:{server.port}"
    running, finished = _begin(address, "/held"), _begin(address, ITEM)
    while httpx.get(f"{address}{finished}").status_code == 202:
        time.sleep(0.01)
    asked = ((running, 202), (finished, 200), (f"{running}/status", 200))
    each = [Series(server.port, server.pid, path, status) for path, status in asked]
    return Series(bare.port, bare.pid, ITEM), each


def _begin(address: str, path: str) -> str:
    started = httpx.get(f"{address}{path}", headers={"prefer": "respond-async"})
    return httpx.URL(started.headers["location"]).path


if __name__ == "__main__":
    main()
