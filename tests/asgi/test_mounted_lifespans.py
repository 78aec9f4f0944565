"""What is mounted has no lifespan: it has the state of the one around, and its shutdown."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from raincheck import is_rerun
from raincheck.asgi import RaincheckMiddleware
from raincheck.asgi.lifespans import drain_with_the_server
from raincheck.asgi.surroundings import Surroundings
from tests.support.asgi import Call, call, engine_of, follow, inside, lose, recover
from tests.support.handlers import answer, wrap

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("by_hand")]


class Server:
    """A server's side of a lifespan as uvicorn has it: told to shut down, it tells in turn."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.state = dict[str, Any]()
        self.started, self.stopping, self.ended = anyio.Event(), anyio.Event(), anyio.Event()

    async def run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
        await self.app(scope, self.receive, self.send)
        self.ended.set()

    async def receive(self) -> Any:
        if not self.started.is_set():
            return {"type": "lifespan.startup"}
        await self.stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def send(self, message: Any) -> None:
        self.started.set()

    async def shutdown(self) -> None:
        self.stopping.set()
        await self.ended.wait()

    async def request(self, path: str) -> Call:
        return await call(self.app, path, state=self.state.copy())


@contextlib.asynccontextmanager
async def serving(*apps: Any) -> AsyncIterator[list[Server]]:
    async with anyio.create_task_group() as group:
        servers = [Server(app) for app in apps]
        for server in servers:
            group.start_soon(server.run)
            await server.started.wait()
        yield servers
        for server in servers:
            await server.shutdown()


class Api:
    """An application with a lifespan, and one with raincheck that is mounted in it."""

    def __init__(self, name: str = "pool") -> None:
        self.log = list[str]()
        self.states = list[dict[str, Any]]()
        self.may_end = anyio.Event()
        self.name = name
        options: dict[str, Any] = {"store": "memory:", "budget": 0.02, "application": name}
        self.mounted = Starlette(
            routes=[Route("/slow", self.slow)],
            middleware=[Middleware(RaincheckMiddleware, **options)],
        )
        self.app = Starlette(
            routes=[Mount("/api", self.mounted)],
            middleware=[Middleware(Login)],
            lifespan=self.lifespan,
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[dict[str, Any]]:
        yield {"db": self.name}
        self.log.append("closed")

    async def slow(self, request: Request) -> Response:
        self.states.append(dict(request.state._state))
        if not is_rerun():
            await self.may_end.wait()
        self.log.append("done")
        return Response("done")


class Login:
    """Middleware that says in the state of a request whose it is."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["state"]["user"] = "somebody"
        await self.app(scope, receive, send)


async def test_a_rerun_in_a_mounted_application_has_the_state_of_the_lifespan_and_no_more() -> None:
    api = Api()
    async with serving(api.app) as (server,):
        accepted = await server.request("/api/slow")
        await lose(inside(api.mounted))
        await recover(inside(api.mounted))
        assert (await follow(api.app, accepted)).content == b"done"
    assert api.states == [{"db": "pool", "user": "somebody"}, {"db": "pool"}]


async def test_of_several_lifespans_a_rerun_in_a_mounted_application_has_its_own() -> None:
    apis = [Api("one"), Api("two")]
    async with serving(*(api.app for api in apis)) as servers:
        for api, server in zip(apis, servers, strict=True):
            accepted = await server.request("/api/slow")
            await lose(inside(api.mounted))
            await recover(inside(api.mounted))
            await follow(api.app, accepted)
    assert [api.states[-1] for api in apis] == [{"db": "one"}, {"db": "two"}]


async def test_a_shutdown_waits_for_what_runs_in_a_mounted_application() -> None:
    api = Api()
    async with serving(api.app) as (server,), anyio.create_task_group() as group:
        accepted = await server.request("/api/slow")
        group.start_soon(server.shutdown)
        await anyio.wait_all_tasks_blocked()
        assert api.log == []
        api.may_end.set()
        await server.ended.wait()
        assert api.log == ["done", "closed"]
    assert (await follow(api.app, accepted)).content == b"done"


async def test_after_a_second_lifespan_what_was_lost_is_run_again() -> None:
    async def handler(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
        elif is_rerun():
            await answer(send)
        else:
            await anyio.sleep_forever()

    app = wrap(handler, drain=0)
    async with serving(app) as (server,):
        accepted = await server.request("/")
    async with serving(app):
        await anyio.to_thread.run_sync(engine_of(app).recover)
        assert (await follow(app, accepted)).content == b"done"


async def test_after_a_second_lifespan_a_mounted_application_is_drained_and_run_again() -> None:
    api = Api()
    for _ in range(2):
        async with serving(api.app) as (server,):
            api.may_end = anyio.Event()
            accepted = await server.request("/api/slow")
            await lose(inside(api.mounted))
            await anyio.to_thread.run_sync(engine_of(inside(api.mounted)).recover)
            assert (await follow(api.app, accepted)).content == b"done"
            await server.request("/api/slow")
            api.may_end.set()
    assert api.log == ["done", "done", "closed"] * 2


class Speaker:
    """What speaks the lifespan protocol for a server."""

    async def receive(self) -> Any: ...

    async def shutdown(self) -> str:
        return "shut down"


async def test_a_drain_is_put_around_the_shutdown_of_a_server_once() -> None:
    drains = list[str]()

    async def one() -> None:
        drains.append("one")

    async def other() -> None:
        drains.append("other")

    speaker = Speaker()
    for drain in (one, other, one, other):
        assert drain_with_the_server(drain, speaker.receive)
    await speaker.shutdown()
    assert sorted(drains) == ["one", "other"]


def test_lifespans_that_take_turns_are_new_once() -> None:
    surroundings = Surroundings(wrap(Starlette()))
    here, there = {"type": "lifespan", "state": {}}, {"type": "lifespan", "state": {}}
    assert [surroundings.know_lifespan(one) for one in (here, there, here, there)] == [
        *(True, True, False, False)
    ]
