"""Prints how much is accepted and completed: `python -m tests.benchmarks.deferring`, and `--help`.

Clients begin as much as they can with `Prefer: respond-async`, of a handler that answers at once;
what counts is over when the last operation has ended. The bare application beside it does the same
work and answers 200. It judges nothing: goals stand beside what was measured.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import httpx

from tests.benchmarks.asgi_apps import ITEM, starlette_json
from tests.benchmarks.asgi_load import CONNECTIONS, cpu_seconds
from tests.benchmarks.asgi_timing import ASYNC, per_second
from tests.benchmarks.polls import STORES
from tests.benchmarks.tables import Scale, Table
from tests.support.processes import ServerProcess

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

STORE = "DEFERRING_STORE"
GOALS = {"memory": 4_000, "sqlite": 2_000, "redis": 1_200, "postgresql": 1_000}


def create() -> ASGIApp:
    """Build the application, which tells at `/in-flight` how much is; for `uvicorn --factory`."""
    from raincheck.asgi import RaincheckMiddleware

    if not (store := os.environ[STORE]):
        return starlette_json()
    limits = {"operations": 100_000, "operations_in_store": 1_000_000}
    wrapped = RaincheckMiddleware(starlette_json(), store=store, limits=limits)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/in-flight":
            await wrapped(scope, receive, send)
            return
        body = b"%d" % len(wrapped._gateway.engine.running)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


@dataclass
class Series:
    """What was measured of one server: operations per second, and CPU seconds of each."""

    port: int
    pid: int
    is_bare: bool
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def measure(self, seconds: int) -> None:
        """Begin as much as there is time for, and wait for the end of all."""
        before, begin = cpu_seconds(self.pid), time.perf_counter()
        status, headers = (200, ()) if self.is_bare else (202, (ASYNC,))
        number = per_second(self.port, ITEM, seconds, status, headers) * seconds
        while not self.is_bare and self._in_flight():
            time.sleep(0.005)
        self.rates.append(number / (time.perf_counter() - begin))
        self.costs.append((cpu_seconds(self.pid) - before) / number)

    def _in_flight(self) -> int:
        return int(httpx.get(f"http://127.0.0.1:{self.port}/in-flight", timeout=60).text)


@contextmanager
def serve(url: str) -> Iterator[Series]:
    """Start a server with a store; with none, of the bare application."""
    command = (
        "-m uvicorn tests.benchmarks.deferring:create --factory --port {port} --loop uvloop "
        "--http httptools --no-access-log --log-level error --timeout-keep-alive 60"
    )
    with ServerProcess(command.split(), env={STORE: url}) as server:
        yield Series(server.port, server.pid, is_bare=not url)


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="measure less, and less exactly")
    arguments.add_argument("--stores", default=",".join(GOALS), metavar="STORE,...")
    given = arguments.parse_args()
    deferring(Scale(quick=given.quick), given.stores.split(","))


def deferring(scale: Scale, stores: list[str]) -> None:
    """Print operations per second that are accepted and completed, and what each costs."""
    rounds, seconds = scale.of(5, 3), scale.of(4, 2)
    title = (
        f"Accepted and completed, one uvicorn process, {CONNECTIONS} connections, {rounds} rounds"
    )
    table = Table(title, "store", "per second", "goal", "of bare", "CPU, us", "of bare")
    for store in stores:
        with ExitStack() as stack:
            bare = stack.enter_context(serve(""))
            series = stack.enter_context(serve(stack.enter_context(STORES[store]())))
            for _ in range(rounds):
                bare.measure(seconds)
                series.measure(seconds)
        pairs = zip(series.rates, bare.rates, strict=True)
        costs = zip(series.costs, bare.costs, strict=True)
        table.row(
            store,
            f"{median(series.rates):,.0f}",
            f"{GOALS[store]:,}",
            f"{median(a / b for a, b in pairs):.3f}",
            f"{median(series.costs) * 1e6:,.0f}",
            f"{median(a / b for a, b in costs):.1f}",
        )


if __name__ == "__main__":
    main()
