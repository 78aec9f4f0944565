"""A server in a few lines: it calls an ASGI application in this process and keeps a record."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from raincheck.asgi import RaincheckMiddleware
from raincheck.engine.engine import Engine
from raincheck.operations.operation import Reason

Message = dict[str, Any]
Pairs = Sequence[tuple[bytes, bytes]]
BACKENDS = ("asyncio", "trio")
PATIENT = 30.0  # seconds after which a test has failed; a machine under load is slow
TURNS = 5  # of the event loop until a server says that its client has left


def engine_of(middleware: RaincheckMiddleware) -> Engine:
    """Return the engine of a middleware, to turn its clockwork by hand."""
    return middleware._gateway.engine


def inside(app: Any) -> RaincheckMiddleware:
    """Return the middleware in the stack of a Starlette application that was called before."""
    inner = app.middleware_stack
    while not isinstance(inner, RaincheckMiddleware):
        inner = inner.app
    return inner


async def lose(app: RaincheckMiddleware) -> None:
    """Have all that runs in this process be released, as at its shutdown."""
    running = list(app._gateway.running._handlers)
    for exchange in running:
        exchange.give_up(Reason.SHUTDOWN)
    while app._gateway.running._handlers.intersection(running):  # noqa: ASYNC110 - no event tells
        await anyio.sleep(0.002)


async def recover(app: RaincheckMiddleware) -> None:
    """Run what was lost again, here."""
    app._gateway.running.running_loop()
    await anyio.to_thread.run_sync(engine_of(app).recover)


def http_scope(
    path: str = "/", method: str = "GET", headers: Pairs = (), **more: Any
) -> dict[str, Any]:
    """Describe a request as uvicorn does."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver"), *headers],
        "client": ("127.0.0.1", 5000),
        "server": ("testserver", 80),
        "state": {},
        "extensions": {},
    } | more


@dataclass
class Call:
    """One call of an application, as its server sees it.

    `receive` gives the body's chunks, then waits until the response is complete or `leave` is
    called, and then tells of the disconnect.
    """

    app: Any
    scope: dict[str, Any]
    body: Iterable[bytes] = ()
    sent: list[Message] = field(default_factory=list)
    received: int = 0
    error: BaseException | None = None

    def __post_init__(self) -> None:
        chunks = list(self.body)
        self._incoming: list[Message] = [
            {"type": "http.request", "body": chunk, "more_body": n < len(chunks) - 1}
            for n, chunk in enumerate(chunks)
        ] or [{"type": "http.request", "body": b"", "more_body": False}]
        self._gone = anyio.Event()

    def leave(self) -> None:
        """Close the connection, as the client would."""
        self._gone.set()

    async def receive(self) -> Message:
        if self._incoming:
            self.received += 1
            return self._incoming.pop(0)
        await self._gone.wait()
        for _ in range(TURNS):
            await anyio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(copy.deepcopy(message))
        last = "trailers" if self._start_or_none.get("trailers") else "body"
        is_last = message["type"] == f"http.response.{last}" and not message.get(f"more_{last}")
        if is_last:
            self._gone.set()

    async def run(self) -> Call:
        """Call the application; its exception is kept in `error`."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except Exception as error:
            self.error = error
        return self

    @property
    def status(self) -> int:
        return int(self._start["status"])

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self._start["headers"])

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def _start_or_none(self) -> Message:
        return next((m for m in self.sent if m["type"] == "http.response.start"), {})

    @property
    def _start(self) -> Message:
        return next(m for m in self.sent if m["type"] == "http.response.start")


async def call(
    app: Any,
    path: str = "/",
    method: str = "GET",
    headers: Pairs = (),
    body: Iterable[bytes] = (),
    **more: Any,
) -> Call:
    """Call an application once and return what it did."""
    return await Call(app, http_scope(path, method, headers, **more), body).run()


async def follow(app: Any, accepted: Call, headers: Pairs = (), **more: Any) -> Call:
    """Poll the R of a 202 until it is none any more."""
    path = path_of(accepted)
    with anyio.fail_after(PATIENT):
        while True:
            answer = await call(app, path, headers=headers, **more)
            if answer.status != 202:
                return answer
            await anyio.sleep(0.002)


def path_of(accepted: Call) -> str:
    """Return the path of a 202's R."""
    assert accepted.status == 202, accepted.sent
    location = accepted.header(b"location")
    assert location is not None
    return location.decode().removeprefix("http://testserver")


def without(headers: Iterable[tuple[bytes, bytes]], *names: bytes) -> list[tuple[bytes, bytes]]:
    """Drop the named fields."""
    return [(name, value) for name, value in headers if name.lower() not in names]
