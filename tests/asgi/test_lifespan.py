"""Start-up, shutdown and the drain between them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import anyio
import hypercorn
import pytest
import uvicorn
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio import lifespan as hypercorn_lifespan
from uvicorn.lifespan import on as uvicorn_lifespan

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


async def test_an_application_without_lifespan_is_drained_all_the_same() -> None:
    event = anyio.Event()

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await slow(event)(scope, receive, send)

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


# --- every order of messages, bare and wrapped --------------------------------------------------

START_UP, SHUTDOWN = "lifespan.startup", "lifespan.shutdown"
LIFESPANS: dict[str, list[Any]] = {
    "raises before it receives": [ValueError("no DATABASE_URL")],
    "knows http only": [AssertionError("http")],
    "raises at start-up": ["receive", ValueError("no database")],
    "fails at start-up": ["receive", f"{START_UP}.failed"],
    "fails at start-up and raises": ["receive", f"{START_UP}.failed", ValueError("no database")],
    "raises when it has started": ["receive", f"{START_UP}.complete", ValueError("gone")],
    "raises after an unasked start": [f"{START_UP}.complete", ValueError("gone")],
    "starts unasked": [f"{START_UP}.complete"],
    "sends without receiving": [f"{START_UP}.complete", f"{SHUTDOWN}.complete"],
    "only receives": ["receive"],
    "ends when it has started": ["receive", f"{START_UP}.complete"],
    "raises at shutdown": ["receive", f"{START_UP}.complete", "receive", ValueError("torn")],
    "fails at shutdown": ["receive", f"{START_UP}.complete", "receive", f"{SHUTDOWN}.failed"],
    "does as it should": ["receive", f"{START_UP}.complete", "receive", f"{SHUTDOWN}.complete"],
}


async def seen(steps: list[Any], wrapped_by: Any) -> tuple[list[str], list[str], str]:
    """Return what the server and the application are sent in a lifespan, and how it ends."""
    server, received = Lifespan(), list[str]()
    server.stop.set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step in steps:
            if step == "receive":
                received.append((await receive())["type"])
            elif isinstance(step, BaseException):
                raise step
            else:
                await send({"type": step})

    try:
        await wrapped_by(app)({"type": "lifespan"}, server.receive, server.send)
    except BaseException as error:
        return server.sent, received, repr(error)
    return server.sent, received, ""


@pytest.mark.parametrize("order", LIFESPANS)
async def test_a_lifespan_is_the_same_bare_and_wrapped(order: str) -> None:
    steps = LIFESPANS[order]
    assert await seen(steps, wrap) == await seen(steps, lambda app: app)


async def told_by_uvicorn(app: Any, mode: Any) -> list[object]:
    config = uvicorn.Config(app, lifespan=mode, log_config=None)
    lifespan = uvicorn_lifespan.LifespanOn(config)
    await lifespan.startup()
    started = not lifespan.should_exit
    if started:
        await lifespan.shutdown()
    failures = lifespan.startup_failed, lifespan.shutdown_failed, lifespan.error_occurred
    return [started, lifespan.should_exit, *failures]


async def told_by_hypercorn(app: Any, mode: Any) -> list[object]:
    config = hypercorn.Config()
    lifespan = hypercorn_lifespan.Lifespan(ASGIWrapper(app), config, asyncio.get_running_loop(), {})
    ending = asyncio.create_task(lifespan.handle_lifespan())
    await lifespan.wait_for_startup()
    await lifespan.wait_for_shutdown()
    (outcome,) = await asyncio.gather(ending, return_exceptions=True)
    return [lifespan.supported, repr(outcome)]


def following(steps: list[Any]) -> Handler:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step in steps:
            if step == "receive":
                await receive()
            elif isinstance(step, BaseException):
                raise step
            else:
                await send({"type": step})

    return app


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("told_by", [told_by_uvicorn, told_by_hypercorn])
@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("order", ["says nothing", *LIFESPANS])
async def test_a_server_takes_a_wrapped_lifespan_as_it_takes_a_bare_one(
    order: str, mode: str, told_by: Any, caplog: pytest.LogCaptureFixture
) -> None:
    steps = LIFESPANS.get(order, [])

    async def told(app: Handler) -> tuple[list[object], list[str]]:
        caplog.clear()
        outcome = await told_by(app, mode)
        return outcome, [record.getMessage() for record in caplog.records]

    with caplog.at_level(logging.INFO):
        assert await told(wrap(following(steps))) == await told(following(steps))


class Speaker(Lifespan):
    """The server's side of a lifespan as uvicorn and others have it: it is told to shut down."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    async def shutdown(self) -> None:
        self.log.append("shutdown")


@pytest.mark.parametrize("steps", [[], [KeyError("path")], ["receive", f"{START_UP}.complete"]])
async def test_a_server_drains_although_its_application_does_not_hear_of_the_shutdown(
    steps: list[Any],
) -> None:
    event, log = anyio.Event(), list[str]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await event.wait()
            log.append("handler")
            await answer(send)
        for step in steps if scope["type"] == "lifespan" else ():
            if isinstance(step, Exception):
                raise step
            await (receive() if step == "receive" else send({"type": step}))

    wrapped, server = wrap(app), Speaker(log)
    with contextlib.suppress(KeyError):
        await wrapped({"type": "lifespan"}, server.receive, server.send)
    assert server.sent == [step for step in steps if str(step).startswith(START_UP)]
    accepted = await call(wrapped)
    async with anyio.create_task_group() as group:
        group.start_soon(server.shutdown)
        await anyio.wait_all_tasks_blocked()
        event.set()
    assert log == ["handler", "shutdown"]
    assert (await follow(wrapped, accepted)).content == b"done"
