"""A middleware in a single route is refused: polls never come there."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from raincheck.asgi import RaincheckMiddleware
from raincheck.errors import ConfigurationError
from tests.support.asgi import call, follow
from tests.support.handlers import until_deferred, wrap

pytestmark = pytest.mark.anyio
RAINCHECK = Middleware(RaincheckMiddleware, store="memory:", budget=0, application="tests")


async def slow(request: Request) -> Response:
    await until_deferred()
    return Response("done")


class Slow(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return await slow(request)


@pytest.mark.parametrize("inside", [[], [Middleware(GZipMiddleware)]])
def test_the_middleware_of_a_route_is_refused_at_construction(inside: list[Any]) -> None:
    with pytest.raises(ConfigurationError, match="single route"):
        Route("/slow", slow, middleware=[RAINCHECK, *inside])


@pytest.mark.parametrize(
    "route",
    [
        Route("/slow", Slow, middleware=[RAINCHECK]),
        Route("/slow", wrap(Starlette(routes=[Route("/slow", slow)]))),
    ],
)
@pytest.mark.parametrize("mounted", ["", "/in"])
async def test_the_middleware_of_a_route_is_refused_at_its_first_use(
    route: Route, mounted: str
) -> None:
    routes = [Mount(mounted, routes=[route])] if mounted else [route]
    refused = await call(Starlette(routes=routes), f"{mounted}/slow")
    assert (refused.status, type(refused.error)) == (500, ConfigurationError)


@pytest.mark.parametrize(
    "app",
    [
        Starlette(routes=[Mount("/in", routes=[Route("/slow", slow)], middleware=[RAINCHECK])]),
        Starlette(
            routes=[Mount("/in", Starlette(routes=[Route("/slow", slow)], middleware=[RAINCHECK]))]
        ),
        FastAPI(
            routes=[Mount("/in", wrap(Starlette(routes=[Route("/slow", slow)]), budget=0))],
        ),
    ],
)
async def test_the_middleware_of_a_mount_is_not(app: Any) -> None:
    assert (await follow(app, await call(app, "/in/slow"))).content == b"done"


async def test_the_middleware_of_a_route_that_takes_every_path_is_not() -> None:
    inside = wrap(Starlette(routes=[Route("/slow", slow)]), budget=0)
    app = Starlette(routes=[Route("/{path:path}", inside)])
    assert (await follow(app, await call(app, "/slow"))).content == b"done"
