"""Marked handlers in Starlette: functions, endpoint classes, mounts, partials; under middleware."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any, ClassVar

import pytest
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    BaseUser,
    SimpleUser,
    requires,
)
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from raincheck import current_operation, long_running
from raincheck.asgi import RaincheckMiddleware
from raincheck.operations.operation import Operation
from raincheck.stores.memory import MemoryStore
from tests.frameworks.checks import MarkedHandlers, Released, check_on_a_server
from tests.frameworks.session import Paths, bare, deferring, until
from tests.frameworks.work import MADE_BY, Work


class Nosy(BaseHTTPMiddleware):
    """Touches every response, as most middleware does."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers.append("x-seen", "yes")
        return response


class Badge(AuthenticationBackend):
    """Knows who brings a good badge, lets nobody in with a forged one."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        badge = conn.headers.get("authorization")
        if badge == "forged":
            raise AuthenticationError("forged")
        return (AuthCredentials(["guest"]), SimpleUser("guest")) if badge == "good" else None


def _refuse(_: HTTPConnection, error: AuthenticationError) -> Response:
    return PlainTextResponse(str(error), 401)


def _made(text: str) -> Response:
    return PlainTextResponse(text, 201, {MADE_BY: "hand"})


async def _order(request: Request) -> str:
    return str((await request.json())["order"])


def plain(_: Request) -> Response:
    return PlainTextResponse("plain", headers={"x-plain": "yes"})


def _functions(work: Work) -> list[BaseRoute]:
    @long_running
    async def on_loop(request: Request) -> Response:
        return _made(await work.on_loop(await _order(request)))

    @long_running
    def in_thread(request: Request) -> Response:
        return _made(work.in_thread(request.headers.get("x-order", "tea")))

    @requires("guest", status_code=403)
    @long_running
    async def guarded(request: Request) -> Response:
        return _made(await work.on_loop(await _order(request)))

    async def unmarked(request: Request) -> Response:
        return _made(await work.on_loop(await _order(request)))

    return [
        Route("/async", on_loop, methods=["POST"]),
        Route("/sync", in_thread, methods=["POST"]),
        Route("/guarded", guarded, methods=["POST"]),
        Route("/unmarked", unmarked, methods=["POST"]),
        Route("/plain", plain),
        Mount("/mounted", routes=[Route("/async", on_loop, methods=["POST"])]),
    ]


def _endpoints(work: Work) -> list[BaseRoute]:
    class OnLoop(HTTPEndpoint):
        @long_running
        async def post(self, request: Request) -> Response:
            return _made(await work.on_loop(await _order(request)))

    class InThread(HTTPEndpoint):
        @long_running
        def post(self, request: Request) -> Response:
            return _made(work.in_thread(request.headers.get("x-order", "tea")))

    return [Route("/endpoint/async", OnLoop), Route("/endpoint/sync", InThread)]


def _partials(work: Work) -> list[BaseRoute]:
    async def on_loop(work: Work, request: Request) -> Response:
        return _made(await work.on_loop(await _order(request)))

    outside = long_running(functools.partial(on_loop, work))
    inside = functools.partial(long_running(on_loop), work)
    return [
        Route("/partial/outside", outside, methods=["POST"]),
        Route("/partial/inside", inside, methods=["POST"]),
    ]


def build(work: Work, depth: int = 0) -> Starlette:
    """Return the application, behind that many middlewares of the popular kind."""
    badge = Middleware(AuthenticationMiddleware, backend=Badge(), on_error=_refuse)
    return Starlette(
        routes=[*_functions(work), *_endpoints(work), *_partials(work)],
        middleware=[*[Middleware(Nosy)] * depth, badge],
    )


def serve() -> ASGIApp:
    """Return the application for a real server."""
    return Released(build(work := Work(), depth=1), work)


class TestStarlette(MarkedHandlers):
    on_loop: ClassVar[Paths] = (
        "/async",
        "/endpoint/async",
        "/mounted/async",
        "/partial/outside",
        "/partial/inside",
    )
    in_thread: ClassVar[Paths] = ("/sync", "/endpoint/sync")
    refused = (
        ("/guarded", {"authorization": "forged"}, b"{}", 401),
        ("/guarded", {}, b"{}", 403),
        ("/plain", {}, b"{}", 405),
    )
    depth = 0

    def build(self, work: Work) -> ASGIApp:
        return build(work, self.depth)


class TestBehindTwoBaseHTTPMiddlewares(TestStarlette):
    on_loop: ClassVar[Paths] = ("/async", "/endpoint/async")
    in_thread: ClassVar[Paths] = ("/sync",)
    depth = 2


@pytest.mark.asyncio
async def test_raincheck_may_be_added_as_one_of_the_middlewares() -> None:
    work = Work()
    app = build(work, depth=1)
    app.add_middleware(RaincheckMiddleware, budget=None, store="memory:")
    async with bare(app, work) as session:
        accepted = await session.start("/async")
        work.release()
        response = await session.result(accepted)
        assert (response.status_code, response.headers["x-seen"]) == (201, "yes")


def test_a_route_keeps_the_name_of_its_marked_handler() -> None:
    assert build(Work()).url_path_for("in_thread") == "/sync"


@pytest.mark.asyncio
async def test_without_raincheck_the_current_operation_is_nobody() -> None:
    seen: list[Any] = []

    async def handler(request: Request) -> Response:
        operation = current_operation()
        operation.progress(1)
        operation.raise_if_cancelled()
        seen.append((operation.id, operation.cancelled))
        return plain(request)

    async with bare(Starlette(routes=[Route("/", handler)]), Work()) as session:
        assert (await session.client.get("/")).status_code == 200
    assert seen == [(None, False)]


class SlowStore(MemoryStore):
    """Records an operation when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_creating = threading.Event()
        self.may_create = threading.Event()

    def create(self, operation: Operation, *args: Any, **kwargs: Any) -> Operation:
        self.is_creating.set()
        self.may_create.wait()
        return super().create(operation, *args, **kwargs)


@pytest.mark.asyncio
async def test_progress_reported_while_the_operation_is_being_recorded_is_not_lost() -> None:
    store, released = SlowStore(), asyncio.Event()

    @long_running
    async def handler(request: Request) -> Response:
        await until(store.is_creating.is_set)
        current_operation().progress(1)
        store.may_create.set()
        await released.wait()
        return plain(request)

    app = Starlette(routes=[Route("/", handler)])
    async with deferring(app, Work(), store=store) as session:
        accepted = await session.client.get("/")
        try:
            assert await session.progress(accepted) == {"completed": 1}
        finally:
            released.set()


@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_server(__name__, ("/async", "/sync", "/endpoint/sync"))
