"""Prints how long requests wait for a store that fails: `python -m` this, and `--help`.

Requests that come all at once to a handler of 0.3 seconds with a budget of 0.1, bare and with each
store hanging, locked and dead; under uvicorn, and under gunicorn with threads. It judges nothing:
at most 2 s later than bare is the target.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from redis import Redis

from raincheck import asgi, wsgi
from raincheck.stores.sqlite import database
from tests.benchmarks.figures import Figure
from tests.benchmarks.places import start
from tests.benchmarks.tables import Scale, Table, less, parser
from tests.support.processes import ServerProcess
from tests.support.real_servers import PostgreSQLServer, RealServer, RedisServer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from starlette.types import ASGIApp, Receive, Scope, Send

WORK = 0.3  # seconds
BUDGET = 0.1  # seconds
THREADS = 32
SERVERS = {
    "uvicorn": "-m uvicorn tests.benchmarks.failing_stores:asgi_app --factory --port {port} "
    "--log-level critical",
    "gunicorn": "-m gunicorn tests.benchmarks.failing_stores:wsgi_app() --bind 127.0.0.1:{port} "
    f"--worker-class gthread --threads {THREADS} --no-control-socket --log-level critical",
}
Failure = Callable[[ServerProcess], AbstractContextManager[object]]


# --- the applications --------------------------------------------------------------------------


def asgi_app() -> ASGIApp:
    """Return the application for uvicorn, bare if no store is named."""

    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await (asyncio.to_thread(hang) if scope["path"] == "/hang" else asyncio.sleep(WORK))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    bare = "RAINCHECK_STORE" not in os.environ
    return work if bare else asgi.RaincheckMiddleware(work, budget=BUDGET)


def wsgi_app() -> WSGIApplication:
    """Return the same for gunicorn."""

    def work(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        hang() if environ["PATH_INFO"] == "/hang" else time.sleep(WORK)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    bare = "RAINCHECK_STORE" not in os.environ
    return work if bare else wsgi.RaincheckMiddleware(work, budget=BUDGET)


def hang() -> None:
    """Keep what a call holds that its disk never answers."""
    for one in database._DATABASES:
        threading.Thread(target=one._lock.acquire).start()


# --- the load ----------------------------------------------------------------------------------


def ask(port: int, path: str, number: int) -> tuple[list[float], Counter[str]]:
    """Send so many requests at once; return the seconds to each answer, sorted, and statuses."""
    statuses: Counter[str] = Counter()

    async def one() -> float:
        begun = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
        statuses[(await reader.read())[9:12].decode()] += 1
        writer.close()
        return time.perf_counter() - begun

    async def run() -> list[float]:
        return sorted(await asyncio.gather(*(one() for _ in range(number))))

    return asyncio.run(run()), statuses


# --- the failures ------------------------------------------------------------------------------


@contextmanager
def hanging_sqlite(server: ServerProcess) -> Iterator[None]:
    ask(server.port, "/hang", 1)
    yield


@contextmanager
def locked_sqlite(path: Path, server: ServerProcess) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def dead_sqlite(path: Path, server: ServerProcess) -> Iterator[None]:
    shutil.rmtree(path.parent)
    path.parent.touch()  # nor can it be made again
    yield


@contextmanager
def paused(store: Any, server: ServerProcess) -> Iterator[None]:
    store.pause()
    yield
    store.resume()


@contextmanager
def killed(store: Any, server: ServerProcess) -> Iterator[None]:
    store.kill()
    yield
    store.start()


@contextmanager
def locked_redis(store: RedisServer, server: ServerProcess) -> Iterator[None]:
    with Redis.from_url(store.url) as admin:
        admin.client_pause(600_000, all=False)  # those who write wait
        yield
        admin.client_unpause()


@contextmanager
def locked_postgresql(store: PostgreSQLServer, server: ServerProcess) -> Iterator[None]:
    with psycopg.connect(store.url) as admin:
        found = "SELECT tablename FROM pg_tables WHERE tablename LIKE 'raincheck%'"
        for (table,) in admin.execute(found).fetchall():
            admin.execute(f"LOCK TABLE {table}")
        yield


SERVED: list[tuple[str, type[RealServer], Callable[..., Any]]] = [
    ("redis", RedisServer, locked_redis),
    ("postgresql", PostgreSQLServer, locked_postgresql),
]


@contextmanager
def stores() -> Iterator[dict[tuple[str, str], tuple[str, Failure]]]:
    """Yield where each store is, and what has it fail, by its name and the failure's."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = {how: directory / how / "operations.db" for how in ("hanging", "locked", "dead")}
        sqlite: dict[str, Failure] = {
            "hanging": hanging_sqlite,
            "locked": partial(locked_sqlite, paths["locked"]),
            "dead": partial(dead_sqlite, paths["dead"]),
        }
        found = {("sqlite", how): (f"sqlite://{paths[how]}", sqlite[how]) for how in sqlite}
        for name, kind, locked in SERVED:
            if (store := start(kind, stack)) is not None:
                found[name, "hanging"] = store.url, partial(paused, store)
                found[name, "locked"] = store.url, partial(locked, store)
                found[name, "dead"] = store.url, partial(killed, store)
        yield found


def measure(
    command: str, number: int, url: str | None, fail: Failure | None
) -> tuple[Figure, Figure, str]:
    """Return the seconds of the slowest and the median answer, and how many had which status."""
    environment = {} if url is None else {"RAINCHECK_STORE": url}
    with ServerProcess(command.split(), env=environment) as server, ExitStack() as stack:
        ask(server.port, "/", 1)
        if fail is not None:
            stack.enter_context(fail(server))
        times, statuses = ask(server.port, "/", number)
    shown = " ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    return less(times[-1], ".2f"), less(times[len(times) // 2], ".2f"), shown


def main() -> None:
    """Measure what is asked for."""
    asked = parser("failing_stores", __doc__)
    asked.add_argument("--requests", type=int, help="at once (300; --quick: 50)")
    asked.add_argument("--server", choices=SERVERS, help="only this one (--quick: uvicorn)")
    given = asked.parse_args()
    number = given.requests or Scale(quick=given.quick).of(300, 50)
    asked_for = [given.server] if given.server else list(SERVERS)
    for server in asked_for[:1] if given.quick else asked_for:
        columns = ("store", "slowest", "median", "statuses", "later")
        table = Table(f"{server}: {number} requests at once, seconds to the answer", *columns)
        bare = measure(SERVERS[server], number, None, None)
        table.row("bare", *bare, "")
        with stores() as found:
            for (name, how), (url, fail) in found.items():
                row = measure(SERVERS[server], number, url, fail)
                table.row(f"{name}, {how}", *row, less(row[0].value - bare[0].value, "+.2f"))


if __name__ == "__main__":
    main()
