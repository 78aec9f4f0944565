"""Start-up, shutdown and the drain between them."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.support.asgi import call, follow, path_of
from tests.support.handlers import Handler, answer, slow, wrap

pytestmark = pytest.mark.anyio


class Lifespan:
    """A server's side of a lifespan: start-up at once, shutdown when it is asked for."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.stop = anyio.Event()
        self.started = anyio.Event()
        self._is_up = False

    async def receive(self) -> Any:
        if not self._is_up:
            self._is_up = True
            return {"type": "lifespan.startup"}
        await self.stop.wait()
        return {"type": "lifespan.shutdown"}

    async def send(self, message: Any) -> None:
        self.sent.append(message["type"])
        self.started.set()


def with_lifespan(handler: Handler, log: list[str]) -> Handler:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await handler(scope, receive, send)
            return
        for _ in range(2):
            kind = (await receive())["type"]
            log.append(kind)
            await send({"type": f"{kind}.complete"})

    return app


async def test_shutdown_waits_for_running_operations_before_the_application_sees_it() -> None:
    event, log = anyio.Event(), list[str]()

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await event.wait()
        log.append("handler")
        await answer(send)

    app, server = wrap(with_lifespan(handler, log)), Lifespan()
    async with anyio.create_task_group() as group:
        group.start_soon(app, {"type": "lifespan"}, server.receive, server.send)
        await server.started.wait()
        accepted = await call(app)
        server.stop.set()
        await anyio.wait_all_tasks_blocked()
        assert log == ["lifespan.startup"]
        event.set()
    assert log == ["lifespan.startup", "handler", "lifespan.shutdown"]
    assert (await follow(app, accepted)).content == b"done"


async def test_what_outlasts_the_drain_is_ended_by_the_shutdown_or_released() -> None:
    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep_forever()

    app, server = wrap(with_lifespan(handler, []), drain=0.05), Lifespan()
    async with anyio.create_task_group() as group:
        group.start_soon(app, {"type": "lifespan"}, server.receive, server.send)
        await server.started.wait()
        accepted = await call(app, "/", "POST")
        released = await call(app)
        server.stop.set()
    done = await call(app, path_of(accepted))
    assert (done.status, b'"code":"shutdown"' in done.content) == (500, True)
    waiting = await call(app, path_of(released))
    assert (waiting.status, b'"status":"accepted"' in waiting.content) == (202, True)


@pytest.mark.parametrize("refusal", [ValueError("http only"), None])
async def test_an_application_without_lifespan_is_drained_all_the_same(
    refusal: Exception | None,
) -> None:
    event = anyio.Event()

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await slow(event)(scope, receive, send)
        elif refusal is not None:
            raise refusal

    app, server = wrap(handler), Lifespan()
    async with anyio.create_task_group() as group:
        group.start_soon(app, {"type": "lifespan"}, server.receive, server.send)
        await server.started.wait()
        accepted = await call(app)
        server.stop.set()
        event.set()
    assert server.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert (await follow(app, accepted)).content == b"done"


async def test_an_error_at_start_up_goes_on() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError("no database")

    server = Lifespan()
    with pytest.raises(ValueError, match="no database"):
        await wrap(app)({"type": "lifespan"}, server.receive, server.send)
    assert server.sent == []
