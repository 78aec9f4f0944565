"""Prints what thousands of clients cost that listen to an operation: `python -m` this.

One uvicorn process serves them; they are connections of this process. As many listen as the limit
of open files allows. One of them never reads. It judges nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from tests.benchmarks import pollers
from tests.benchmarks.asgi_load import memory, request
from tests.benchmarks.tables import Scale, Table, less, parser

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from tests.support.processes import ServerProcess

PATIENCE = 120.0  # seconds after which a measurement has failed
EVENTS = "Accept: text/event-stream"
ENDED = b"event: end\n"


# --- the server --------------------------------------------------------------------------------


def create() -> ASGIApp:
    """Build the application; for `uvicorn --factory`."""
    from raincheck import CurrentOperation, current_operation
    from raincheck.asgi import RaincheckMiddleware

    gates: dict[str, asyncio.Event] = {}
    operations: dict[str, CurrentOperation] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        handler, _, name = scope["path"][1:].partition("/")
        body = b"ok"
        if handler == "work":
            operations[name] = current_operation()
            await gates.setdefault(name, asyncio.Event()).wait()
        elif handler == "idle":  # as who listens is, but without raincheck
            await receive()
            await receive()
        elif handler == "tell":
            name, _, step = name.partition("/")
            operations[name].progress(int(step), 1_000_000, f"step {step} of many")
        elif handler == "end":
            gates[name].set()
        elif handler == "waiting":
            body = b"%d" % wrapped._gateway.monitor.watcher.waiters
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    limits = {"pollers": 50_000, "operations": 50_000}
    wrapped = RaincheckMiddleware(
        app, store=os.environ[pollers.STORE], budget=0, include=["/work/*"], limits=limits
    )
    return wrapped


# --- the clients -------------------------------------------------------------------------------


class Listener(pollers.Client):
    """One connection; it keeps the last of what it has heard, and when.

    Attributes:
        heard: When something came last, by the performance counter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heard = 0.0

    def data_received(self, data: bytes) -> None:
        self.received = bytearray((self.received + data)[-1500:])
        self.heard = time.perf_counter()
        if ENDED in self.received:
            self.answered = self.heard

    def ask(self, message: bytes) -> asyncio.Future[None]:
        is_over = super().ask(message)
        self.answered = 0.0
        return is_over


async def listen(port: int, number: int, path: str) -> list[Listener]:
    """Make as many connections that listen."""
    loop, made = asyncio.get_running_loop(), list[Listener]()
    while len(made) < number:
        few = min(pollers.AT_ONCE, number - len(made))
        connecting = (loop.create_connection(Listener, "127.0.0.1", port) for _ in range(few))
        those = [protocol for _, protocol in await asyncio.gather(*connecting)]
        for each in those:
            each.ask(request(path, EVENTS))
        made += those
    return made


def stop_reading(port: int, path: str) -> socket.socket:
    """Listen without ever reading."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    deaf.connect(("127.0.0.1", port))
    deaf.sendall(request(path, EVENTS))
    return deaf


# --- measurements ------------------------------------------------------------------------------


@dataclass
class Figures:
    """What was measured.

    Attributes:
        memory: KiB of resident memory for each client.
        growth: KiB more for each, after all the changes.
        told: For each change, the seconds until each client has heard of it.
        busy: Seconds that fast requests took meanwhile.
        ended: The seconds until each has heard of the end.
    """

    memory: float = 0
    growth: float = 0
    told: list[list[float]] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)


async def measure(server: ServerProcess, number: int, changes: int) -> Figures:
    """Have clients listen to one operation, let it change, and end it."""
    figures, other = Figures(), await pollers.connect(server.port)
    name = f"{time.monotonic_ns()}"
    path = (await pollers.fetch(other, f"/work/{name}")).decode()
    before = memory(server.pid, "VmRSS")
    clients = await listen(server.port, number, path)
    deaf = stop_reading(server.port, path)
    await pollers.until_waiting(other, number + 1)
    await _until(lambda: all(each.heard for each in clients))
    figures.memory = (memory(server.pid, "VmRSS") - before) / number
    for change in range(changes):
        word = b"step %d of" % change
        begin = time.perf_counter()
        await pollers.fetch(other, f"/tell/{name}/{change}")
        await _look(other, figures, partial(_have_all_heard, clients, word))
        figures.told.append([each.heard - begin for each in clients])
    figures.growth = (memory(server.pid, "VmRSS") - before) / number - figures.memory
    begin = time.perf_counter()
    await pollers.fetch(other, f"/end/{name}")
    await _look(other, figures, lambda: all(each.answered for each in clients))
    figures.ended = [each.answered - begin for each in clients]
    for each in clients:
        each.leave()
    deaf.close()
    await pollers.until_waiting(other, 0)
    other.leave()
    return figures


def _have_all_heard(clients: list[Listener], word: bytes) -> bool:
    return all(word in each.received for each in clients)


async def _look(other: pollers.Client, figures: Figures, is_done: Callable[[], bool]) -> None:
    begin = time.perf_counter()
    while not is_done():
        asked = time.perf_counter()
        await pollers.fetch(other, "/fast")
        figures.busy.append(time.perf_counter() - asked)
        if time.perf_counter() - begin > PATIENCE:
            raise RuntimeError("not everybody was told")


async def _until(is_done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_done():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.1)


# --- the table ---------------------------------------------------------------------------------


def main() -> None:
    """Measure each number of clients with each store."""
    asked = parser("listeners", __doc__)
    asked.add_argument("--numbers", help="of clients (1000,5000,10000; --quick: 1000)")
    asked.add_argument("--stores", default="memory,sqlite")
    asked.add_argument("--changes", type=int, help="that they hear of (5; --quick: 2)")
    arguments = asked.parse_args()
    numbers = arguments.numbers or ("1000" if arguments.quick else "1000,5000,10000")
    changes = arguments.changes or Scale(quick=arguments.quick).of(5, 2)
    most = pollers.allow_files() - pollers.OTHER_FILES
    columns = ("KiB each", "KiB more", "ms, max busy", "s, p50 told", "s, last told", "s, last end")
    table = Table("Clients that listen: cost, changes, fast requests beside them", "", *columns)
    for store in arguments.stores.split(","):
        for wanted in (int(number) for number in numbers.split(",")):
            number = min(wanted, most)
            if store == "memory":
                with pollers.serve(store, "listeners") as server:
                    each = asyncio.run(pollers.idle_connections(server, number))
                table.row(f"{number:,} connections, no raincheck", less(each))
            with pollers.serve(store, "listeners") as server:
                figures = asyncio.run(measure(server, number, changes))
            table.row(
                f"{number:,}, {store}",
                less(figures.memory),
                less(figures.growth),
                less(1000 * max(figures.busy, default=0), ".0f"),
                less(median(max(told) for told in figures.told), ".2f"),
                less(max(max(told) for told in figures.told), ".2f"),
                less(max(figures.ended), ".2f"),
            )


if __name__ == "__main__":
    main()
