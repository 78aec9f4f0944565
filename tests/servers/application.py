"""The applications that the servers run: raw ASGI; options and journal are as in `material`."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.routing import Mount

from raincheck import current_operation
from raincheck.asgi import RaincheckMiddleware
from tests.servers.material import OPTIONS, content, note

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Call:
    """One request: the first segment of its path names the handler, the rest names the call."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")).removeprefix("/bare")
        self.handler, _, self.name = path.strip("/").partition("/")
        self.receive = receive
        self.send = send
        self._query = dict(parse_qsl(scope["query_string"].decode("ascii")))

    def number(self, name: str, default: float = 0) -> float:
        """Return a number of the query."""
        return float(self._query.get(name, default))

    @property
    def content(self) -> bytes:
        """The body that the query describes."""
        return content(int(self.number("seed")), int(self.number("size")))

    async def pause(self, name: str = "seconds") -> None:
        """Work for so long; with `deferred=1` in the query not before there is an operation.

        However busy the machine is: else both the budget and the work may be over when this
        process runs again.
        """
        if self.number("deferred"):
            while current_operation().id is None:  # noqa: ASYNC110 - no event tells
                await anyio.sleep(0.01)
        await anyio.sleep(self.number(name))

    async def start(self, length: int | None = None) -> None:
        """Send status and header fields, one of them twice."""
        headers = [(b"x-note", b"one"), (b"x-ran-by", b"%d" % os.getpid()), (b"x-note", b"two")]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        status = int(self.number("status", 200))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def respond(self, body: bytes) -> None:
        """Send a whole response."""
        await self.start(len(body))
        await self.send({"type": "http.response.body", "body": body})

    async def read(self) -> bytes | None:
        """Return the request's body; None if the client left before its end."""
        body, more = b"", True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return body


async def fast(call: Call) -> None:
    await call.respond(b"fast")


async def slow(call: Call) -> None:
    await call.pause()
    await call.respond(call.content)


async def thread(call: Call) -> None:
    def work() -> None:
        while call.number("deferred") and current_operation().id is None:
            time.sleep(0.01)
        time.sleep(call.number("seconds"))

    await anyio.to_thread.run_sync(work)
    await call.respond(call.content)


async def upload(call: Call) -> None:
    """Work, read the body, work on, and send it back."""
    if call.number("before"):
        await call.pause("before")
    body = await call.read()
    if body is None:
        note(f"left {call.name}")
        return
    await call.pause("after")
    await call.respond(body)


async def failing(call: Call) -> None:
    await call.pause()
    raise RuntimeError("this handler always fails")


async def streaming(call: Call) -> None:
    """Send the body in ten parts, with a pause before the response and one within it."""
    await call.pause("before")
    await call.start()
    body = call.content
    size = len(body) // 10
    for n in range(10):
        await call.send(
            {
                "type": "http.response.body",
                "body": body[n * size : (n + 1) * size],
                "more_body": n < 9,
            }
        )
        if n == 4:
            await anyio.sleep(call.number("between"))


async def blocked(call: Call) -> None:
    """Say how far it is, and wait to be cancelled."""
    current_operation().progress(3, total=10, message="rendering")
    await anyio.sleep_forever()


async def listening(call: Call) -> None:
    """Tell what a handler hears that watches for its client to leave."""
    await call.read()
    heard = "nothing"
    async with anyio.create_task_group() as group:
        group.start_soon(_cancel_later, group, call)
        heard = (await call.receive())["type"]
        group.cancel_scope.cancel()
    note(f"{heard} {call.name}")
    await anyio.sleep(call.number("after"))
    await call.respond(heard.encode())


async def _cancel_later(group: TaskGroup, call: Call) -> None:
    await call.pause()
    group.cancel_scope.cancel()


HANDLERS: dict[str, Callable[[Call], Awaitable[None]]] = {
    handler.__name__: handler
    for handler in (fast, slow, thread, upload, failing, streaming, blocked, listening)
}


async def _http(scope: Scope, receive: Receive, send: Send) -> None:
    call = Call(scope, receive, send)
    note(f"started {call.name}")
    try:
        await HANDLERS[call.handler](call)
    except anyio.get_cancelled_exc_class():
        note(f"cancelled {call.name}")
        raise
    note(f"finished {call.name}")


async def _lifespan(receive: Receive, send: Send) -> None:
    for event in ("startup", "shutdown"):
        await receive()
        note(event)
        await send({"type": f"lifespan.{event}.complete"})


async def _websocket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """Be the application, without raincheck."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await _websocket(receive, send)
    else:
        await _http(scope, receive, send)


async def _without_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise RuntimeError("this application knows no lifespan")
    await plain(scope, receive, send)


def _signed(application: ASGIApp) -> ASGIApp:
    """Let every response say which process answered, raincheck's own included."""

    async def signed(scope: Scope, receive: Receive, send: Send) -> None:
        async def sign(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-answered-by", b"%d" % os.getpid())]
            await send(message)

        await application(scope, receive, sign if scope["type"] == "http" else send)

    return signed


app = RaincheckMiddleware(plain, **OPTIONS)
without_lifespan = RaincheckMiddleware(_without_lifespan, **OPTIONS)
signed = _signed(app)

mounted = Starlette(routes=[Mount("/sub", app)])
