"""Prints what the WSGI middleware costs, bare against wrapped: `python -m` this, and `--help`.

Bare, inline (a rule or an unmarked view says that the request can't be deferred) and promotable (it
runs in a thread of its own), in-process and under gunicorn's gthread worker, alone and beside
threads that burn CPU. It judges nothing: targets stand beside what was measured.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

from tests.benchmarks.asgi_load import load, request
from tests.benchmarks.asgi_timing import per_second
from tests.benchmarks.tables import Scale, Table, choose, less, more, parser, ratio
from tests.benchmarks.wsgi_apps import ITEM, VARIANTS, build, environment
from tests.support.processes import ServerProcess

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

THREADS = 8
FEW = 4
WRAPPED = [name for name in VARIANTS if name != "bare"]
APPS = ("raw", "Flask", "Django")


def serve(app: str, variant: str, threads: int = THREADS, **options: Any) -> ServerProcess:
    """Return a server of one process and some threads; entering its context starts it."""
    command = [
        *("-m", "gunicorn", "tests.benchmarks.wsgi_apps:create()", "--worker-class", "gthread"),
        *("--threads", str(threads), "--bind", "127.0.0.1:{port}", "--log-level", "error"),
        *("--keep-alive", "60", "--no-control-socket"),
    ]
    return ServerProcess(command, env=environment(app, variant, **options))


# --- in-process --------------------------------------------------------------------------------


def microseconds(scale: Scale) -> None:
    """Print microseconds per call: medians of differences within a round."""
    rounds = scale.of(200, 40)
    table = Table(
        "Microseconds per call in-process",
        *("application", "bare", *("+" + name.split(" (")[-1] for name in WRAPPED)),
        detail=f"{rounds} paired rounds (excluded: at most +1)",
    )
    for app in APPS:
        known = [name for name in VARIANTS if app != "raw" or "marked" not in name]
        targets = {name: build(app, name) for name in known}
        times: dict[str, list[float]] = {name: [] for name in targets}
        for _ in range(rounds):
            for name in random.sample(known, len(known)):
                times[name].append(_time(targets[name], scale.of(200, 50)))
        bare = times["bare"]
        cells = [
            less(median(w - b for w, b in zip(times[name], bare, strict=True)), "+.1f")
            if name in times
            else "-"
            for name in WRAPPED
        ]
        table.row(app, less(median(bare)), *cells)


def _time(app: WSGIApplication, number: int) -> float:
    environs = [_environ() for _ in range(number)]
    begin = time.perf_counter()
    for environ in environs:
        result = app(environ, _start_response)
        b"".join(result)
        close = getattr(result, "close", None)
        if close is not None:
            close()
    return (time.perf_counter() - begin) / number * 1e6


def _environ() -> dict[str, Any]:
    environ: dict[str, Any] = {"PATH_INFO": ITEM, "QUERY_STRING": "", "SCRIPT_NAME": ""}
    setup_testing_defaults(environ)
    return environ


def _start_response(status: str, headers: Any, exc_info: Any = None, /) -> Callable[[bytes], None]:
    return lambda data: None


# --- under a server ----------------------------------------------------------------------------


def throughput(scale: Scale) -> None:
    """Print requests/s of each variant as a ratio to the bare application."""
    rounds, seconds = scale.of(7, 3), scale.of(3, 1)
    title = f"Requests/s, gunicorn gthread, {THREADS} threads"
    detail = f"{rounds} rounds of {seconds} s"
    table = Table(title, "application, variant", "requests/s", "ratio", "at least", detail=detail)
    for app in APPS:
        known = [name for name in VARIANTS if app != "raw" or "marked" not in name]
        with ExitStack() as stack:
            ports = {name: stack.enter_context(serve(app, name)).port for name in known}
            rates = _interleaved(ports, rounds, seconds)
        for name, values in rates.items():
            limit = "0.9" if (app, name) == ("Flask", "promotable") else ""
            cells = (more(median(values)), ratio(values, rates["bare"], "more"), limit)
            table.row(f"{app}, {name}", *cells)


def _interleaved(ports: dict[str, int], rounds: int, seconds: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in ports}
    for _ in range(rounds):
        for name, port in ports.items():
            rates[name].append(per_second(port, ITEM, seconds))
    return rates


def beside(scale: Scale) -> None:
    """Print one client's latency while other threads of the process burn CPU."""
    number = scale.of(300, 50)
    title = "Latency beside threads that burn CPU: ms"
    detail = f"gthread, 1 client, {number} requests"
    table = Table(title, "variant, burning threads", "median", "p95", detail=detail)
    for burning in (0, 1, 3):
        for name in ("bare", "inline (excluded)", "promotable"):
            with serve("raw", name) as server:
                load(server.port, request(ITEM), 20, connections=2)
                for _ in range(burning):
                    load(server.port, request("/burn/60"), 1, connections=1)
                times = [s * 1000 for s in load(server.port, request(ITEM), number, connections=1)]
            p95 = quantiles(times, n=20)[-1]
            table.row(f"{name}, {burning}", less(median(times), ".2f"), less(p95, ".2f"))


def waiting(scale: Scale) -> None:
    """Print how fast others are answered while slow requests wait out their budget."""
    slow = 16
    title = f"{slow} requests of 3 s at once, gthread with {FEW} threads: 202s, and seconds"
    table = Table(title, "variant", "202", "slow: median", "fast: median", "fast: worst")
    for name, budget in (("bare", 10), ("promotable", 1), ("promotable", 10)):
        with serve("raw", name, FEW, budget=budget) as server:
            load(server.port, request(ITEM), 8, connections=4)
            with ThreadPoolExecutor(1) as background:
                slow_ones = background.submit(answers, server.port, "/sleep/3", slow, slow)
                time.sleep(0.2)
                fast = [seconds for _, seconds in answers(server.port, ITEM, 20, 1)]
                codes, seconds = zip(*slow_ones.result(), strict=True)
        cells = (median(seconds), median(fast), max(fast))
        shown = name if name == "bare" else f"{name}, budget {budget} s"
        table.row(shown, str(codes.count(202)), *(less(cell, ".2f") for cell in cells))


def early(scale: Scale) -> None:
    """Print which answers are 202 before the budget is over."""
    views = ((3, 0.2), (4, 0.2), (4, 1.5), (8, 0.2), (4, 0.8), (3, 1.5))[: scale.of(6, 3)]
    title = f"202s before the budget of 10 s is over, gthread with {FEW} threads"
    table = Table(title, "clients x seconds", *(f"{number} x {each}" for number, each in views))
    with serve("raw", "promotable", FEW, budget=10) as server:
        load(server.port, request(ITEM), 8, connections=4)
        cells = []
        for clients, seconds in views:
            number = clients * scale.of(10, 4)
            found = answers(server.port, f"/sleep/{seconds}", number, clients)
            cells.append(less(deferred(found) / number, ".0%"))
        table.row("promotable", *cells)
        title = f"A check of 80 ms, 20 times beside requests of 5 s in {FEW} threads: 202s"
        table = Table(title, "requests", "of them", "of the checks", "worst s")
        for slow in (3,) if scale.quick else (2, 3, 4):
            with ThreadPoolExecutor(1) as background:
                slow_ones = background.submit(answers, server.port, "/sleep/5", slow, slow)
                time.sleep(0.2)
                checks = answers(server.port, "/sleep/0.08", 20, 1)
                cells = [less(deferred(found), ".0f") for found in (slow_ones.result(), checks)]
            table.row(str(slow), *cells, less(max(seconds for _, seconds in checks), ".2f"))


def deferred(found: list[tuple[int, float]]) -> int:
    """Count the answers that are 202."""
    return sum(code == 202 for code, _ in found)


def answers(port: int, path: str, number: int, clients: int) -> list[tuple[int, float]]:
    """Ask so many times, by so many clients at once; return status codes and seconds."""

    def one(_: int) -> tuple[int, float]:
        begin, connection = time.perf_counter(), HTTPConnection("127.0.0.1", port)
        with closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status, time.perf_counter() - begin

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(one, range(number)))


PARTS = {
    "microseconds": microseconds,
    "throughput": throughput,
    "beside": beside,
    "waiting": waiting,
    "early": early,
}


def main() -> None:
    """Run the parts that were asked for."""
    asked = parser("wsgi_overhead", __doc__)
    choose(asked, "--only", PARTS)
    arguments = asked.parse_args()
    for name in arguments.only:
        PARTS[name](Scale(quick=arguments.quick))


if __name__ == "__main__":
    main()
