"""The application in FastAPI; its endpoints are sync, and run in threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI, Request, Response

from raincheck import long_running
from raincheck.asgi import RaincheckMiddleware
from tests.gateways.applications.handlers import Asked, Handler, in_thread, routes
from tests.gateways.applications.starlette import to_response
from tests.gateways.applications.variants import asgi_variants

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from raincheck.config.options import Options


async def _asked(request: Request) -> Asked:
    return Asked(request.query_params, await request.body())


def _endpoint(handler: Handler) -> Callable[[Asked], Response]:
    def endpoint(asked: Annotated[Asked, Depends(_asked)]) -> Response:
        return to_response(in_thread(handler, asked))

    return endpoint


def _build(options: Options) -> FastAPI:
    app = FastAPI(openapi_url=None)
    for path, handler, methods, marked in routes():
        endpoint = _endpoint(handler)
        app.add_api_route(
            path, long_running(endpoint) if marked else endpoint, methods=list(methods)
        )
    app.add_middleware(RaincheckMiddleware, **options)
    return app


def app() -> ASGIApp:
    """Return what an ASGI server is to serve."""
    return asgi_variants(_build)
