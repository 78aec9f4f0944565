"""Listing the handlers of frameworks that only speak ASGI; nothing is looked up by request."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import sys
from typing import Any

import falcon.asgi
import fastapi
import litestar
import pytest
import quart
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from raincheck import long_running
from raincheck.inspection import Endpoint, find_directory, leads_to_mark, marked_requests


def listed(app: object) -> dict[str, bool]:
    """Return all handlers by method and path, and whether they are marked."""
    directory = find_directory(app)
    assert directory is not None
    return {
        f"{method} {endpoint.where}": leads_to_mark(endpoint.handler, method)
        for endpoint in directory.all()
        for method in _methods(endpoint)
    }


def _methods(endpoint: Endpoint) -> set[str]:
    return set(endpoint.methods or ("GET", "POST")) - {"HEAD", "OPTIONS"}


async def plain(request: Request) -> Response:
    raise AssertionError("it was run")


@long_running
async def marked(request: Request) -> Response:
    raise AssertionError("it was run")


class Class(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        raise AssertionError("it was run")

    @long_running
    async def post(self, request: Request) -> Response:
        raise AssertionError("it was run")


async def anything(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("it was run")


async def socket(websocket: WebSocket) -> None:
    raise AssertionError("it was run")


def starlette() -> Starlette:
    inner = Starlette(routes=[Route("/order", marked, methods=["POST"])])
    inner.add_middleware(GZipMiddleware)
    return Starlette(
        routes=[
            Route("/plain/{number:int}", plain),
            Route("/marked", marked, methods=["POST"]),
            Route("/class", Class),
            Route("/gzip", marked, middleware=[Middleware(GZipMiddleware)]),
            WebSocketRoute("/socket", socket),
            Mount("/mount", routes=[Route("/marked", marked), Mount("/plain", app=anything)]),
            Mount("/shop", app=GZipMiddleware(inner)),
            Mount("/router", app=Router([Route("/marked", marked)])),
            Host("api.example.org", app=Router([Route("/host", marked)])),
        ]
    )


def test_starlette() -> None:
    assert listed(GZipMiddleware(starlette())) == {
        "GET /plain/{number:int}": False,
        "POST /marked": True,
        "GET /class": False,
        "POST /class": True,
        "GET /gzip": True,
        "GET /mount/marked": True,
        "POST /shop/order": True,
        "GET /router/marked": True,
        "GET /host": True,
    }


def test_starlette_without_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi.routing", None)
    test_starlette()


def test_fastapi() -> None:
    app = fastapi.FastAPI(openapi_url=None)
    outer, inner = fastapi.APIRouter(prefix="/outer"), fastapi.APIRouter(prefix="/inner")

    @app.get("/plain")
    def plain() -> None: ...

    @inner.post("/marked/{number}")
    @long_running
    def marked(number: int) -> None: ...

    @long_running
    @outer.post("/above")
    async def above() -> None: ...

    @outer.get("/marked")
    @long_running
    async def also_marked() -> None: ...

    outer.include_router(inner)
    app.include_router(outer, prefix="/v1")
    assert listed(app) == {
        "GET /plain": False,
        "POST /v1/outer/above": False,
        "GET /v1/outer/marked": True,
        "POST /v1/outer/inner/marked/{number}": True,
    }


def test_litestar() -> None:
    @litestar.get("/plain")
    async def plain() -> None: ...

    @litestar.post("/marked")
    @long_running
    async def marked() -> None: ...

    class Orders(litestar.Controller):
        path = "/orders"

        @litestar.post()
        @long_running
        async def order(self) -> None: ...

        @litestar.get()
        async def orders(self) -> list[str]:
            return []

    app = litestar.Litestar([plain, marked, Orders], openapi_config=None)
    assert listed(app) == {
        "GET /plain": False,
        "POST /marked": True,
        "POST /orders": True,
        "GET /orders": False,
    }


def test_quart() -> None:
    app = quart.Quart(__name__, static_folder=None)
    shop = quart.Blueprint("shop", __name__, url_prefix="/shop")

    @app.get("/plain")
    async def plain() -> str:
        return ""

    @shop.post("/marked/<int:number>")
    @long_running
    async def marked(number: int) -> str:
        return ""

    @long_running
    @app.post("/above")
    async def above() -> str:
        return ""

    @app.websocket("/socket")
    async def socket() -> None: ...

    app.register_blueprint(shop)
    expected = {"GET /plain": False, "POST /above": False, "POST /shop/marked/<int:number>": True}
    assert listed(app) == listed(app.asgi_app) == expected


def test_falcon() -> None:
    class Report:
        @long_running
        async def on_post(self, request: Any, response: Any) -> None: ...

        async def on_get(self, request: Any, response: Any) -> None: ...

    app: falcon.asgi.App[Any, Any] = falcon.asgi.App()
    app.add_route("/reports/{name}/pages", Report())
    assert listed(app) == {
        "POST /reports/{name}/pages": True,
        "GET /reports/{name}/pages": False,
    }


def test_what_only_speaks_asgi_is_not_asked_for_wsgi_requests() -> None:
    assert marked_requests(starlette()) is None
    assert marked_requests(litestar.Litestar()) is None


def test_an_unknown_framework_has_no_directory() -> None:
    assert find_directory(plain) is None
    assert find_directory(lambda environ, start_response: []) is None
    assert find_directory(None) is None
    assert marked_requests(object()) is None
