"""The application in Starlette; its endpoints are async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from raincheck import long_running
from raincheck.asgi import RaincheckMiddleware
from tests.gateways.applications.handlers import (
    Answer,
    Asked,
    Handler,
    on_loop,
    on_loop_too,
    routes,
)
from tests.gateways.applications.variants import asgi_variants

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from raincheck.config.options import Options


def to_response(answer: Answer) -> Response:
    """Answer as Starlette does."""
    fields, response = dict(answer.fields), Response()
    if isinstance(answer.body, bytes):
        response = Response(answer.body, answer.status, fields)
    else:
        response = StreamingResponse(on_loop_too(answer.body), answer.status, fields)
    for name, value in answer.cookies:
        response.set_cookie(name, value, samesite=None)
    return response


def _endpoint(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        asked = Asked(request.query_params, await request.body())
        return to_response(await on_loop(handler, asked))

    return endpoint


def _build(options: Options) -> Starlette:
    found = []
    for path, handler, methods, marked in routes():
        endpoint = _endpoint(handler)
        found.append(Route(path, long_running(endpoint) if marked else endpoint, methods=methods))
    app = Starlette(routes=found)
    app.add_middleware(RaincheckMiddleware, **options)
    return app


def app() -> ASGIApp:
    """Return what an ASGI server is to serve."""
    return asgi_variants(_build)
