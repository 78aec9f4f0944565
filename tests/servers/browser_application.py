"""An application for pages of another origin, and such a page; `TEST_HIDDEN` for strict CORS."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from raincheck import current_operation
from raincheck.asgi import RaincheckMiddleware

HIDDEN = bool(os.environ.get("TEST_HIDDEN"))
polls: list[dict[str, Any]] = []


async def page(request: Request) -> Response:
    return HTMLResponse("<!doctype html><title>a page</title><p>Another origin's page.</p>")


async def login(request: Request) -> Response:
    response = PlainTextResponse("welcome")
    response.set_cookie("user", "ann")
    return response


async def report(request: Request) -> Response:
    """Work for some seconds, and say how far it is."""
    if request.cookies.get("user") != "ann":
        return PlainTextResponse("who are you?", 401)
    seconds = float(request.query_params.get("seconds", "0"))
    for tenth in range(10):
        current_operation().progress(tenth, 10, "rendering")
        await asyncio.sleep(seconds / 10)
    return PlainTextResponse("the report", int(request.query_params.get("status", "200")))


def owner(scope: Any) -> str | None:
    return Request(scope).cookies.get("user")


async def asked(request: Request) -> Response:
    """Tell what polls there were: method, `Prefer`, status."""
    return Response(repr(polls))


def noted(app: Any) -> Any:
    async def note(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or "/operations/" not in scope["path"]:
            await app(scope, receive, send)
            return
        fields = dict(scope["headers"])
        poll = {"method": scope["method"], "prefer": fields.get(b"prefer")}

        async def keep(message: Any) -> None:
            if message["type"] == "http.response.start":
                polls.append(poll | {"status": message["status"]})
            await send(message)

        await app(scope, receive, keep)

    return note


cors: dict[str, Any] = {"allow_origin_regex": ".*", "allow_credentials": True}
if HIDDEN:
    cors["allow_methods"] = ["GET"]
else:
    shown = ["Location", "Operation-Location", "Operation-Status", "Retry-After"]
    cors |= {"allow_methods": ["*"], "allow_headers": ["Prefer"], "expose_headers": shown}

app = Starlette(
    routes=[
        *(Route("/", page), Route("/login", login), Route("/report", report)),
        Route("/asked", asked),
    ],
    middleware=[
        Middleware(CORSMiddleware, **cors),
        Middleware(noted),
        Middleware(
            RaincheckMiddleware, budget=0.2, include=["/report"], owner=owner, client_js=True
        ),
    ],
)
