"""What raincheck costs a request that it does not defer: instructions, microseconds, requests/s."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from statistics import median
from typing import Any, Self, TypeVar

from tests.benchmarks.asgi_apps import ITEM, Target
from tests.benchmarks.asgi_load import load, request
from tests.benchmarks.figures import Figure
from tests.benchmarks.tables import Scale, Table, less, missing
from tests.support.processes import ROOT, free_port

CACHEGRIND = (
    *("valgrind", "--tool=cachegrind", "--cache-sim=no"),
    "--cachegrind-out-file=/dev/null",
)
SHORT, LONG = 320, 1600  # requests: subtracting the two leaves neither start nor end
EXACT = 0.015  # of a count; runs of the same code differ by as much
TIMEOUT = 180.0  # seconds; valgrind is slow
WITH_ORIGIN = request(ITEM, "Origin: https://example.org")  # or CORS has nothing to do

T = TypeVar("T")

PATHS: dict[str, tuple[str, dict[str, Any]]] = {
    "bare": ("bare", {}),
    "rule miss": ("raincheck", {"exclude": [ITEM], "store": "memory:"}),
    "in budget": ("raincheck", {"budget": 10, "store": "memory:"}),
    "CORSMiddleware": ("cors", {}),
}
INSTRUCTIONS = {  # at most, as a ratio to bare
    "raw": {"rule miss": 1.05, "in budget": 1.30},
    "raw, suspending": {"rule miss": 1.05, "in budget": 1.30},
    "Starlette": {"rule miss": 1.03, "in budget": 1.16},
    "FastAPI": {"rule miss": 1.01, "in budget": 1.07},
}
IN_GUIDE = ("raw", "Starlette", "FastAPI")


def target(app: str, path: str) -> Target:
    """Return an application on one of the paths through raincheck, or around it."""
    wrapping, options = PATHS[path]
    return Target(app, wrapping, options)


def instructions(scale: Scale) -> None:
    """Print instructions per request, counted by cachegrind."""
    if shutil.which("valgrind") is None:
        missing("valgrind, which counts instructions per request")
        return
    python = f"Python {platform.python_version()}, median of {scale.repeat}"
    table = Table(
        "Instructions per request",
        *("application, path", "instructions", "added", "ratio", "at most"),
        detail=f"uvicorn (httptools, uvloop), {python}",
    )
    for app in IN_GUIDE if scale.quick else INSTRUCTIONS:
        with Counter(app) as counter:
            _show(table, app, counter, scale.repeat)


def _show(table: Table, app: str, counter: Counter, repeat: int) -> None:
    bare = 0.0
    for path in PATHS:
        each = median(counter.per_request(target(app, path)) for _ in range(repeat))
        bare = bare or each
        limits = INSTRUCTIONS[app]
        limit = f"{limits[path]:.2f}" if path in limits else ""
        ratio = Figure(each / bare, "less", ".3f", is_ratio=True, noise=EXACT)
        table.row(f"{app}, {path}", less(each, ",.0f"), f"{each - bare:+,.0f}", ratio, limit)


class Counter:
    """Counts the instructions of servers of one application."""

    def __init__(self, app: str) -> None:
        self._output = tempfile.TemporaryFile("a+")  # noqa: SIM115 - closed by __exit__
        fixed = {"PYTHONHASHSEED": "0", "PYTHONMALLOC": "pymalloc"}
        self._parent = subprocess.Popen(
            [*CACHEGRIND, sys.executable, "-m", "tests.benchmarks.asgi_counted", app],
            cwd=ROOT,
            env={**os.environ, **fixed},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.killpg(self._parent.pid, signal.SIGKILL)
        self._parent.communicate()
        self._output.close()

    def per_request(self, target: Target) -> float:
        """Count two runs of different length, and share out the difference."""
        ports = [free_port() for _ in (SHORT, LONG)]
        pids = [self._fork(port, target) for port in ports]
        with ThreadPoolExecutor(2) as both:  # what else the machine does changes no count
            few, many = both.map(self._count, ports, pids, (SHORT, LONG))
        return (many - few) / (LONG - SHORT)

    def _fork(self, port: int, target: Target) -> int:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps([port, asdict(target)]) + "\n")
        self._parent.stdin.flush()
        if not (answer := self._parent.stdout.readline()):
            raise RuntimeError(f"valgrind has ended:\n{self._printed()}")
        return int(answer)

    def _count(self, port: int, pid: int, number: int) -> int:
        with socket.socket() as probe:
            self._wait(lambda: probe.connect_ex(("127.0.0.1", port)) == 0)
        load(port, WITH_ORIGIN, number)
        os.kill(pid, signal.SIGINT)
        count = re.compile(rf"=={pid}== I\s+refs:\s+([\d,]+)")
        found = self._wait(lambda: count.search(self._printed()))
        return int(found[1].replace(",", ""))

    def _printed(self) -> str:
        return os.pread(self._output.fileno(), 2**24, 0).decode(errors="replace")

    def _wait(self, ask: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + TIMEOUT
        while not (found := ask()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing was counted:\n{self._printed()}")
            time.sleep(0.05)
        return found
