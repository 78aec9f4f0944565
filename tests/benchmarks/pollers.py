"""Prints what thousands of clients cost that wait for the end of an operation: `python -m` this.

One uvicorn process serves them; they are connections of this process. As many wait as the limit of
open files allows. It judges nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.benchmarks.asgi_load import cpu_seconds, memory, request
from tests.benchmarks.tables import Scale, Table, less, parser
from tests.support.processes import ServerProcess

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

STORE = "POLLERS_STORE"
LONG = 600  # seconds that clients would wait
PATIENCE = 120.0  # seconds after which a measurement has failed
OTHER_FILES = 500  # that a process has open beside its connections
AT_ONCE = 200  # connections that are being made at the same time
CONTENT = b"x" * 1000


# --- the server --------------------------------------------------------------------------------


def create() -> ASGIApp:
    """Build the application; for `uvicorn --factory`."""
    from raincheck.asgi import RaincheckMiddleware

    gates: dict[str, asyncio.Event] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        handler, _, name = scope["path"][1:].partition("/")
        body = CONTENT
        if handler == "work":
            await gates.setdefault(name, asyncio.Event()).wait()
        elif handler == "idle":  # as a poller is, but without raincheck
            await receive()
            await receive()
        elif handler == "end":
            gates[name].set()
        elif handler == "waiting":
            body = b"%d" % wrapped._gateway.monitor.watcher.waiters
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    limits = {"pollers": 50_000, "operations": 50_000}
    wrapped = RaincheckMiddleware(
        app, store=os.environ[STORE], budget=0, include=["/work/*"], max_wait=LONG, limits=limits
    )
    return wrapped


@contextmanager
def serve(store: str, module: str = "pollers") -> Iterator[ServerProcess]:
    """Start a server with a store, `memory` or `sqlite`, and the application of a module here."""
    command = (
        f"-m uvicorn tests.benchmarks.{module}:create --factory --port {{port}} --backlog 8192 "
        "--no-access-log --log-level warning --timeout-keep-alive 600"
    )
    with TemporaryDirectory() as directory:
        url = "memory:" if store == "memory" else f"sqlite://{directory}/operations.db"
        with ServerProcess(command.split(), env={STORE: url}) as server:
            yield server


# --- the clients -------------------------------------------------------------------------------


class Client(asyncio.Protocol):
    """One connection; a client in as few bytes as may be.

    Attributes:
        answered: When the last answer was complete, by the performance counter.
    """

    def __init__(self) -> None:
        self.answered = 0.0
        self.received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._is_over: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = bytes(self.received).partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if end and (length is None or len(body) >= int(length[1])):
            self.answered = time.perf_counter()
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def ask(self, message: bytes) -> asyncio.Future[None]:
        """Send a request; return what is done when the answer is there."""
        assert self._transport is not None
        self.received.clear()
        self._is_over = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        return self._is_over

    @property
    def status(self) -> int:
        """That of the last answer; 0 if there was none."""
        return int(self.received[9:12] or b"0")

    def leave(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def _end(self) -> None:
        if self._is_over is not None and not self._is_over.done():
            self._is_over.set_result(None)


async def connect(port: int) -> Client:
    """Make one connection."""
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(Client, "127.0.0.1", port))[1]


async def fetch(client: Client, path: str) -> bytes:
    """Return the body that a path has, or the path that its `Location` names."""
    async with asyncio.timeout(PATIENCE):
        await client.ask(request(path))
    head, _, body = bytes(client.received).partition(b"\r\n\r\n")
    location = re.search(rb"location: http://[^/]*(\S+)", head)
    return location[1] if location else body


@asynccontextmanager
async def clients(port: int, messages: list[bytes]) -> AsyncIterator[list[Client]]:
    """Make as many connections as there are messages, and send one over each."""
    made: list[Client] = []
    try:
        for begin in range(0, len(messages), AT_ONCE):
            part = messages[begin : begin + AT_ONCE]
            made += await asyncio.gather(*(connect(port) for _ in part))
            for client, message in zip(made[begin:], part, strict=True):
                client.ask(message)
        yield made
    finally:
        for client in made:
            client.leave()


async def until_waiting(other: Client, number: int) -> None:
    """Wait until exactly so many wait for an operation."""
    async with asyncio.timeout(PATIENCE):
        while int(await fetch(other, "/waiting")) != number:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.1)


# --- measurements ------------------------------------------------------------------------------


@dataclass
class Figures:
    """What was measured.

    Attributes:
        memory: KiB of resident memory for each client.
        processor: Part of one processor's time while nothing happens.
        idle: Seconds that fast requests beside the waiting ones took.
        busy: The same while all are being answered.
        answers: Seconds from the end of the operation to each client's answer.
    """

    memory: float = 0
    processor: float = 0
    idle: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)


async def idle_connections(server: ServerProcess, number: int) -> float:
    """Return KiB of resident memory for each connection whose handler waits without raincheck."""
    before = memory(server.pid, "VmRSS")
    async with clients(server.port, [request("/idle")] * number):
        other = await connect(server.port)
        await fetch(other, "/fast")
        other.leave()
        return (memory(server.pid, "VmRSS") - before) / number


async def measure(server: ServerProcess, number: int, seconds: float, *, apart: bool) -> Figures:
    """Have clients wait, look for a while, and end what they wait for.

    Args:
        seconds: How long to look.
        apart: Whether each waits for an operation of its own; then only one of them ends.
    """
    figures, other = Figures(), await connect(server.port)
    names = [f"{time.monotonic_ns()}-{n}" for n in range(number if apart else 1)]
    paths = [(await fetch(other, f"/work/{name}")).decode() for name in names]
    messages = [request(path, f"Prefer: wait={LONG}") for path in paths]
    before = memory(server.pid, "VmRSS")
    async with clients(server.port, messages * (1 if apart else number)) as waiting:
        await until_waiting(other, number)
        figures.memory = (memory(server.pid, "VmRSS") - before) / number
        figures.processor = await _look(server, other, seconds, figures.idle)
        begin = time.perf_counter()
        await fetch(other, f"/end/{names[0]}")
        ending = waiting[:1] if apart else waiting
        while not all(client.answered for client in ending):
            figures.busy.append(await _time(other))
            if time.perf_counter() - begin > PATIENCE:
                raise RuntimeError("not everybody was answered")
        if {client.status for client in ending} != {200}:
            raise RuntimeError("somebody was told something else")
        figures.answers = [client.answered - begin for client in ending]
    await until_waiting(other, 0)
    other.leave()
    return figures


async def _look(server: ServerProcess, other: Client, seconds: float, times: list[float]) -> float:
    begin, used = time.perf_counter(), cpu_seconds(server.pid)
    while (passed := time.perf_counter() - begin) < seconds:
        times.append(await _time(other))
        await asyncio.sleep(0.05)
    return (cpu_seconds(server.pid) - used) / passed


async def _time(client: Client) -> float:
    begin = time.perf_counter()
    await fetch(client, "/fast")
    return time.perf_counter() - begin


# --- the table ---------------------------------------------------------------------------------


def allow_files() -> int:
    """Let this process and its children open as many files as may be; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # "unlimited" is more than the system allows
        return soft
    return hard


def show(table: Table, label: str, figures: Figures) -> None:
    """Print one row."""
    slowest = quantiles(figures.idle, n=100)[-1]
    table.row(
        label,
        less(figures.memory),
        less(figures.processor, ".0%"),
        less(1000 * median(figures.idle)),
        less(1000 * slowest, ".0f"),
        less(1000 * max(figures.busy, default=0), ".0f"),
        less(median(figures.answers), ".2f"),
        less(max(figures.answers), ".2f"),
    )


def main() -> None:
    """Measure each number of clients with each store."""
    asked = parser("pollers", __doc__)
    asked.add_argument("--numbers", help="of clients (1000,5000,10000; --quick: 1000)")
    asked.add_argument("--stores", default="memory,sqlite")
    asked.add_argument("--seconds", type=float, help="of looking at idle clients (11; --quick: 3)")
    arguments = asked.parse_args()
    numbers = arguments.numbers or ("1000" if arguments.quick else "1000,5000,10000")
    looking = arguments.seconds or Scale(quick=arguments.quick).of(11, 3)
    most = allow_files() - OTHER_FILES
    columns = ("KiB each", "CPU idle", "ms, p50", "ms, p99", "ms, max busy", "s, p50", "s, last")
    table = Table("Clients that wait: cost, fast requests beside them, answers", "", *columns)
    for store in arguments.stores.split(","):
        for wanted in (int(number) for number in numbers.split(",")):
            number = min(wanted, most)
            for apart in (False, True):
                kind = "of their own" if apart else "of one"
                with serve(store) as server:
                    if store == "memory" and not apart:
                        each = asyncio.run(idle_connections(server, number))
                        table.row(f"{number:,} connections, no raincheck", less(each))
                    figures = asyncio.run(measure(server, number, looking, apart=apart))
                show(table, f"{number:,} {kind}, {store}", figures)


if __name__ == "__main__":
    main()
