"""What raincheck costs in time: microseconds in-process, requests/s, and how late a 202 is."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import httpx
import trio
import uvloop

from tests.benchmarks.asgi_apps import ITEM, Target
from tests.benchmarks.asgi_cost import target
from tests.benchmarks.asgi_load import CONNECTIONS, load, request, serve
from tests.benchmarks.places import sqlite
from tests.benchmarks.tables import Scale, Table, less, missing, more, ratio

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

ASYNC = "Prefer: respond-async"
IN_PROCESS = ("bare", "rule miss", "in budget")
BUDGET = 0.2  # seconds
LATE_AT_MOST = 5  # ms, median


# --- microseconds in-process -------------------------------------------------------------------


def microseconds(scale: Scale) -> None:
    """Print microseconds per request without a server: medians of differences within a round."""
    rounds = scale.of(400, 30)
    table = Table(
        "Microseconds per request in-process",
        *("application, loop, at a time", "bare", "rule miss", "in budget"),
        detail=f"a task each, {rounds} paired rounds",
    )
    for app in ("raw", "Starlette", "FastAPI"):
        loops = {"asyncio": asyncio.run, "uvloop": uvloop.run}
        for concurrency in (1, CONNECTIONS):
            for name, run in loops.items():
                times = run(_measure(app, rounds, concurrency, _in_tasks))
                _show_differences(table, f"{app}, {name}, {concurrency}", times)
            if app == "raw":
                times = trio.run(_measure, app, rounds, concurrency, _in_nursery)
                _show_differences(table, f"{app}, trio, {concurrency}", times)


Batch = Callable[["ASGIApp", int], Awaitable[None]]


async def _measure(app: str, rounds: int, concurrency: int, batch: Batch) -> dict[str, list[float]]:
    apps = {path: target(app, path).build() for path in IN_PROCESS}
    times: dict[str, list[float]] = {path: [] for path in IN_PROCESS}
    batches = 64 // concurrency
    for _ in range(rounds):
        for path in random.sample(IN_PROCESS, len(IN_PROCESS)):
            begin = time.perf_counter()
            for _ in range(batches):
                await batch(apps[path], concurrency)
            times[path].append((time.perf_counter() - begin) / (batches * concurrency) * 1e6)
    return times


def _show_differences(table: Table, label: str, times: dict[str, list[float]]) -> None:
    bare = times["bare"]
    differences = (
        median(wrapped - plain for wrapped, plain in zip(times[path], bare, strict=True))
        for path in IN_PROCESS[1:]
    )
    table.row(label, less(median(bare)), *(less(added, "+.1f") for added in differences))


async def _in_tasks(app: ASGIApp, number: int) -> None:
    for task in [asyncio.create_task(_call(app)) for _ in range(number)]:
        await task


async def _in_nursery(app: ASGIApp, number: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(_call, app)


async def _call(app: ASGIApp) -> None:
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "GET",
        "path": ITEM,
        "raw_path": ITEM.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, _receive, _send)


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Message) -> None:
    pass


# --- requests/s --------------------------------------------------------------------------------


def throughput(scale: Scale) -> None:
    """Print requests/s of each path as a ratio to the bare application."""
    rounds, seconds = scale.of(7, 2), scale.of(3, 1)
    detail = f"{rounds} rounds of {seconds} s (noisy!)"
    table = Table("Requests/s, uvicorn", "application, path", "requests/s", "ratio", detail=detail)
    for app in ("Starlette",) if scale.quick else ("raw", "Starlette", "FastAPI"):
        with ExitStack() as stack:
            paths = _start_paths(app, stack)
            rates: dict[str, list[float]] = {name: [] for name in paths}
            for _ in range(rounds):
                for name, (port, path, headers) in paths.items():
                    status = 202 if headers else 200
                    rates[name].append(per_second(port, path, seconds, status, headers))
        for name, values in rates.items():
            of_bare = ratio(values, rates["bare"], "more")
            table.row(f"{app}, {name}", more(median(values)), of_bare)


_Path = tuple[int, str, tuple[str, ...]]  # port, path, header fields


def _start_paths(app: str, stack: ExitStack) -> dict[str, _Path]:
    ports = {name: stack.enter_context(serve(target(app, name))).port for name in IN_PROCESS}
    paths: dict[str, _Path] = {name: (port, ITEM, ()) for name, port in ports.items()}
    for store in ("memory:", stack.enter_context(sqlite())):
        server = stack.enter_context(serve(Target(app, "raincheck", {"store": store})))
        kind = store.partition(":")[0]
        paths[f"defer, {kind}"] = (server.port, ITEM, (ASYNC,))
        paths[f"poll, {kind}"] = (server.port, f"{_finished(server.port)}/status", ())
    return paths


def _finished(port: int) -> str:
    """Defer a request and return the path of its R once it is over."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        started = client.get(ITEM, headers={"Prefer": "respond-async"})
        path = httpx.URL(started.headers["location"]).path
        while client.get(path).status_code == 202:
            time.sleep(0.01)
        return path


def per_second(
    port: int, path: str, seconds: int, status: int = 200, headers: tuple[str, ...] = ()
) -> float:
    """Return how many requests of one path a server answers in a second."""
    if shutil.which("wrk"):
        return _with_wrk(port, path, headers, seconds)
    missing("wrk; a client in Python takes its place, which is slower than the servers")
    return _with_python(port, path, headers, seconds, status)


def _with_wrk(port: int, path: str, headers: tuple[str, ...], seconds: int) -> float:
    options = [option for header in headers for option in ("-H", header)]
    amount = ("-t1", f"-c{CONNECTIONS}", f"-d{seconds}s")
    output = subprocess.run(
        ["wrk", *amount, *options, f"http://127.0.0.1:{port}{path}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"wrk saw errors:\n{output}")
    return float(found[1])


def _with_python(
    port: int, path: str, headers: tuple[str, ...], seconds: int, status: int
) -> float:
    begin = time.perf_counter()
    times = load(port, request(path, *headers), status=status, seconds=seconds)
    return len(times) / (time.perf_counter() - begin)


# --- how late a 202 is -------------------------------------------------------------------------


def lateness(scale: Scale) -> None:
    """Print how long after the budget the 202 arrives, beside a handler that just sleeps it."""
    number = scale.of(200, 40)
    title = f"Answer after {BUDGET * 1000:.0f} ms: ms late"
    detail = f"{number} requests on 8 connections"
    table = Table(title, "path", "median", "p95", "worst", "at most", detail=detail)
    with sqlite() as url:
        sleeper = request(f"/sleep/{BUDGET}")
        _show_lateness(table, "bare, asyncio.sleep", Target("slow"), sleeper, 200, number)
        for store in ("memory:", url):
            options: dict[str, Any] = {"budget": BUDGET, "store": store}
            label = f"202, {store.partition(':')[0]}"
            promoted = Target("slow", "raincheck", options)
            _show_lateness(table, label, promoted, request("/sleep/1"), 202, number)


def _show_lateness(
    table: Table, label: str, target: Target, message: bytes, status: int, number: int
) -> None:
    with serve(target) as server:
        load(server.port, message, 8, status=status, connections=8)  # opens the store
        times = load(server.port, message, number, status=status, connections=8, stagger=0.025)
    late = [(seconds - BUDGET) * 1000 for seconds in times]
    cells = (median(late), quantiles(late, n=20)[-1], max(late))
    limit = "" if status == 200 else f"{LATE_AT_MOST}"
    table.row(label, *(less(cell, "+.1f") for cell in cells), limit)
