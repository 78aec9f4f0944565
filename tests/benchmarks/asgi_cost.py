"""What raincheck costs a request that it does not defer: instructions, microseconds, requests/s."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from tests.benchmarks.asgi_apps import ITEM, Target
from tests.benchmarks.asgi_load import load, request, uvicorn
from tests.benchmarks.figures import Figure
from tests.benchmarks.tables import Scale, Table, less, missing
from tests.support.processes import ROOT, free_port

CACHEGRIND = (
    *("valgrind", "--tool=cachegrind", "--cache-sim=no"),
    "--cachegrind-out-file=/dev/null",
)
SHORT, LONG = 320, 1600  # requests: subtracting the two leaves neither start nor end
EXACT = 0.015  # of a count; runs of the same code differ by as much
START_TIMEOUT = 180.0  # seconds; valgrind is slow
WITH_ORIGIN = request(ITEM, "Origin: https://example.org")  # or CORS has nothing to do

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
        limits = INSTRUCTIONS[app]
        bare = 0.0
        for path in PATHS:
            runs = [instructions_per_request(target(app, path)) for _ in range(scale.repeat)]
            each = median(runs)
            bare = bare or each
            limit = f"{limits[path]:.2f}" if path in limits else ""
            added, ratio = f"{each - bare:+,.0f}", each / bare
            cells = (
                less(each, ",.0f"),
                added,
                Figure(ratio, "less", ".3f", is_ratio=True, noise=EXACT),
            )
            table.row(f"{app}, {path}", *cells, limit)


def instructions_per_request(target: Target) -> float:
    """Count the instructions of two runs of different length, and share out the difference."""
    with ThreadPoolExecutor(2) as both:  # what else the machine does changes no count
        few, many = both.map(_count, (target, target), (SHORT, LONG))
    return (many - few) / (LONG - SHORT)


def _count(target: Target, number: int) -> int:
    port = free_port()
    fixed = {"PYTHONHASHSEED": "0", "PYTHONMALLOC": "pymalloc"}
    server = subprocess.Popen(
        [*CACHEGRIND, sys.executable, *uvicorn(port)],
        cwd=ROOT,
        env={**os.environ, **fixed, **target.environment()},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_for(port, server)
        load(port, WITH_ORIGIN, number)
        server.send_signal(signal.SIGINT)
        _, output = server.communicate(timeout=START_TIMEOUT)
    finally:
        server.kill()
    return _references(output)


def _wait_for(port: int, server: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    with socket.socket() as probe:
        while probe.connect_ex(("127.0.0.1", port)) != 0:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server did not start under valgrind")
            time.sleep(0.1)


def _references(output: str) -> int:
    found = re.search(r"I\s+refs:\s+([\d,]+)", output)
    if found is None:
        raise RuntimeError(f"valgrind printed no count:\n{output}")
    return int(found[1].replace(",", ""))
