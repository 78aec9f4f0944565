"""A marker as that of `runner="workers"`: what it marks is called here, but never runs here."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import httpx

from raincheck.runners.leaving import native_exit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BODY = "the body has run"
_source: ContextVar[Mapping[str, Any] | None] = ContextVar("source", default=None)
Steps = list[str]


def handed_over(handler: Any) -> Any:
    """Have a handler raise instead of running."""

    @functools.wraps(handler)
    async def leave_loop(*args: Any, **kwargs: Any) -> Any:
        raise native_exit(args, kwargs, _source.get())

    @functools.wraps(handler)
    def leave(*args: Any, **kwargs: Any) -> Any:
        raise native_exit(args, kwargs, _source.get())

    return leave_loop if inspect.iscoroutinefunction(handler) else leave


def loud(steps: Steps) -> Callable[..., Any]:
    """Return an error handler that nobody wants to be called: it logs, and fails."""

    def handle(*args: Any) -> Any:
        steps.append("an error handler of the application")
        logging.getLogger("shop").error("an error")
        raise AssertionError("not for this one")

    return handle


class AsgiGateway:
    """Tells the marker of the scope, as raincheck's gateway does."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        token = _source.set(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            _source.reset(token)


class WsgiGateway:
    """Tells the marker of the environ."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        token = _source.set(environ)
        try:
            response: Iterable[bytes] = self._app(environ, start_response)
            return response
        finally:
            _source.reset(token)


def ask_asgi(app: Any, path: str) -> httpx.Response:
    """Ask an application without a lifespan; raises what comes out of it."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(AsgiGateway(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.get(path)

    return asyncio.run(ask())


def ask_wsgi(app: Any, path: str) -> httpx.Response:
    """Ask an application; raises what comes out of it."""
    transport = httpx.WSGITransport(WsgiGateway(app))
    with httpx.Client(transport=transport, base_url="http://shop") as client:
        return client.get(path)


class Recording:
    """Pure ASGI middleware that writes down which status goes through it."""

    def __init__(self, app: Any, steps: Steps) -> None:
        self._app, self._steps = app, steps

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def record(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._steps.append(f"middleware: {message['status']}")
            await send(message)

        await self._app(scope, receive, record)


Dispatch = Callable[[Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]


def recording(steps: Steps) -> Dispatch:
    """Return what a BaseHTTPMiddleware may do: it writes down the status that it sees."""

    async def dispatch(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        response = await call_next(request)
        steps.append(f"middleware: {response.status_code}")
        return response

    return dispatch
