"""Marked handlers in Litestar: functions, controllers, guards, injection, worker threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import pytest
from litestar import Controller, Litestar, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers.base import BaseRouteHandler
from litestar.params import JSONBody
from starlette.types import ASGIApp

from raincheck import long_running
from tests.frameworks.checks import MarkedHandlers, Released, check_on_a_server
from tests.frameworks.session import Paths, document
from tests.frameworks.work import MADE_BY, Work

Connection = ASGIConnection[Any, Any, Any, Any]


@dataclass
class Order:
    order: str


@dataclass
class Made:
    made: str


def check_badge(connection: Connection, _: BaseRouteHandler) -> None:
    badge = connection.headers.get("authorization")
    if badge is None:
        raise NotAuthorizedException("who are you?")
    if badge != "good":
        raise PermissionDeniedException("not you")


def _made(text: str) -> Response[Made]:
    return Response(Made(text), headers={MADE_BY: "hand"})


def _functions(work: Work) -> list[Any]:
    @post("/async")
    @long_running
    async def on_loop(data: JSONBody[Order]) -> Response[Made]:
        return _made(await work.on_loop(data.order))

    @post("/sync", sync_to_thread=True)
    @long_running
    def in_thread(data: JSONBody[Order]) -> Response[Made]:
        return _made(work.in_thread(data.order))

    @post("/guarded", guards=[check_badge])
    @long_running
    async def guarded(data: JSONBody[Order]) -> Response[Made]:
        return _made(await work.on_loop(data.order))

    @post("/unmarked")
    async def unmarked(data: JSONBody[Order]) -> Response[Made]:
        return _made(await work.on_loop(data.order))

    @get("/plain")
    async def plain(request: Request[Any, Any, Any]) -> str:
        return "plain"

    return [on_loop, in_thread, guarded, unmarked, plain]


async def provide_bench() -> str:
    return "the bench"


def _controller(work: Work) -> type[Controller]:
    class Workshop(Controller):
        path = "/workshop"
        dependencies = {"bench": Provide(provide_bench)}  # noqa: RUF012 - the framework's way

        @post("/async")
        @long_running
        async def on_loop(
            self, data: JSONBody[Order], bench: NamedDependency[str]
        ) -> Response[Made]:
            return _made(f"{await work.on_loop(data.order)} on {bench}")

        @post("/sync", sync_to_thread=True)
        @long_running
        def in_thread(self, data: JSONBody[Order], bench: NamedDependency[str]) -> Response[Made]:
            return _made(f"{work.in_thread(data.order)} on {bench}")

    return Workshop


def build(work: Work) -> ASGIApp:
    """Return the application."""
    handlers = [*_functions(work), _controller(work)]
    app = Litestar(handlers, openapi_config=None, logging_config=None)
    return cast(ASGIApp, app)


def serve() -> ASGIApp:
    """Return the application for a real server."""
    return Released(build(work := Work()), work)


class TestLitestar(MarkedHandlers):
    on_loop: ClassVar[Paths] = ("/async", "/workshop/async")
    in_thread: ClassVar[Paths] = ("/sync", "/workshop/sync")
    refused = (
        ("/guarded", {}, document(order="tea"), 401),
        ("/guarded", {"authorization": "forged"}, document(order="tea"), 403),
        ("/guarded", {"authorization": "good"}, document(disorder="tea"), 400),
        ("/sync", {}, b"no JSON", 400),
        ("/plain", {}, b"", 405),
    )

    def build(self, work: Work) -> ASGIApp:
        return build(work)


def test_what_the_route_decorator_made_can_not_be_marked() -> None:
    async def handler() -> None: ...

    with pytest.raises(TypeError, match="directly above the function"):
        long_running(post("/")(handler))


@pytest.mark.slow
@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_server(__name__, ("/async", "/workshop/sync"))
