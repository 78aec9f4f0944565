"""What raincheck costs in memory, and at import."""

from __future__ import annotations

import asyncio
import http.client
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from statistics import median

from tests.benchmarks.asgi_apps import PIECE, Target
from tests.benchmarks.asgi_load import load, memory, request, serve
from tests.benchmarks.places import sqlite
from tests.benchmarks.tables import Scale, Table, less
from tests.support.processes import ServerProcess

EACH_AT_MOST = 8  # KiB per deferred operation
PEAK_AT_MOST = 32  # MiB
IMPORT_AT_MOST = 50  # ms
LONG = 3600  # seconds that the handlers sleep: nobody waits for their end
DEFERRED = {"budget": 0, "exclude": ["/sleepers"], "limits": {"operations": 20_000}}
FOREIGN = (
    *("starlette", "fastapi", "django", "flask", "werkzeug", "quart", "litestar", "falcon"),
    *("uvicorn", "httpx", "trio", "sqlite3", "redis", "psycopg", "asyncpg", "celery"),
)


# --- memory per operation ----------------------------------------------------------------------


def memory_each(scale: Scale) -> None:
    """Print resident KiB per sleeping handler: attached to its client, or deferred."""
    number = scale.of(10_000, 2_000)
    table = Table(
        "Memory of a sleeping handler, KiB of RSS",
        *("handler", "each", "at most"),
        detail=f"uvicorn, {number:,} at once",
    )
    attached = asyncio.run(_attached(number))
    table.row("bare, client attached", less(attached))
    with sqlite() as url:
        deferred = _deferred(number, url)
    table.row("deferred, client gone, sqlite", less(deferred), f"{EACH_AT_MOST}")
    table.row("difference", f"{deferred - attached:+.1f}", f"{EACH_AT_MOST}")


def _deferred(number: int, store: str) -> float:
    with serve(Target("slow", "raincheck", {**DEFERRED, "store": store})) as server:
        warm_up = 200
        _defer(server, warm_up)
        before = memory(server.pid, "VmRSS")
        _defer(server, number)
        _wait_until_asleep(server.port, number + warm_up)
        return (memory(server.pid, "VmRSS") - before) / number


def _defer(server: ServerProcess, number: int) -> None:
    message = request(f"/sleep/{LONG}")
    load(server.port, message, number, status=202, connections=100)


async def _attached(number: int) -> float:
    _allow_files(number)
    with serve(Target("slow")) as server:
        async with _connected(server.port, 200):
            before = await _rss_when_asleep(server, 200)
            async with _connected(server.port, number):
                return (await _rss_when_asleep(server, number + 200) - before) / number


def _allow_files(number: int) -> None:
    """Let this process and its children have a file descriptor for each connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (resource.RLIM_INFINITY,) and hard < number + 500:
        raise RuntimeError(f"{number} connections need more file descriptors than {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@asynccontextmanager
async def _connected(port: int, number: int) -> AsyncIterator[None]:
    """Hold that many connections, each waiting for a sleeping handler."""
    writers = []
    try:
        for _ in range(number):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(f"/sleep/{LONG}"))
            writers.append(writer)
        yield
    finally:
        for writer in writers:
            writer.close()


async def _rss_when_asleep(server: ServerProcess, number: int) -> float:
    await asyncio.to_thread(_wait_until_asleep, server.port, number)
    return memory(server.pid, "VmRSS")


def _wait_until_asleep(port: int, number: int) -> None:
    deadline = time.monotonic() + 120
    while (sleeping := int(_get(port, "/sleepers"))) < number:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {sleeping} of {number} handlers sleep")
        time.sleep(0.1)


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return body


# --- a large response --------------------------------------------------------------------------


def large_response(scale: Scale) -> None:
    """Print by how much the peak of memory rises with a large response, captured and served."""
    pieces = scale.of(1024, 128)
    detail = f"{pieces} MiB in pieces of 1 MiB, uvicorn"
    table = Table("A large response: peak of memory, MiB", "path", "rise", "at most", detail=detail)
    with serve(Target("slow")) as server:
        table.row("bare", less(_rise(server, pieces, deferred=False)))
    with sqlite() as url:
        options = {"budget": 0, "store": url, "limits": {"response_body": 2 * 1024**3}}
        with serve(Target("slow", "raincheck", options)) as server:
            rise = _rise(server, pieces, deferred=True)
    table.row("deferred, captured, served", less(rise), f"{PEAK_AT_MOST}")


def _rise(server: ServerProcess, pieces: int, *, deferred: bool) -> float:
    _fetch(server.port, 1, deferred=deferred)
    before = memory(server.pid, "VmRSS")
    _fetch(server.port, pieces, deferred=deferred)
    return (memory(server.pid, "VmHWM") - before) / 1024


def _fetch(port: int, pieces: int, *, deferred: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    path = f"/pieces/{pieces}"
    while True:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status == 200:
            break
        answer.read()
        path = answer.headers["Location"]
        time.sleep(0.1)
    if deferred is not path.startswith("http"):
        raise RuntimeError("the response did not come the way that is measured")
    for piece in _pieces(answer):
        if piece != PIECE:
            raise RuntimeError("the response was altered")
        pieces -= 1
    if pieces:
        raise RuntimeError(f"{pieces} MiB of the response are missing")
    connection.close()


def _pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := answer.read(len(PIECE)):
        yield piece


# --- import ------------------------------------------------------------------------------------


def import_time(scale: Scale) -> None:
    """Print how long `import raincheck` takes, and what it imports that it should not."""
    number = scale.of(15, 5)
    detail = f"fresh interpreters, median of {number}"
    table = Table("Import", "", "ms", "at most", detail=detail)
    bare, full = [], []
    for _ in range(number):
        bare.append(_milliseconds("pass"))
        full.append(_milliseconds("import raincheck"))
    table.row("interpreter alone", less(median(bare)))
    added = median(full) - median(bare)
    table.row("import raincheck", less(added, "+.1f"), f"{IMPORT_AT_MOST}")
    print(f"Frameworks and drivers imported with it: {_foreign() or 'none'}")


def _milliseconds(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - begin) * 1000


def _foreign() -> str:
    code = f"import sys, raincheck; print(*[n for n in {FOREIGN} if n in sys.modules])"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return output.stdout.strip()
