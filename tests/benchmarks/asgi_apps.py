"""The applications that the ASGI benchmarks measure; a server builds them by name."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

VARIABLE = "ASGI_BENCHMARK_TARGET"
ITEM = "/item"
PIECE = bytes(range(256)) * 4096  # 1 MiB
DOCUMENT = {"id": 1, "name": "item", "tags": ["a", "b"]}


@dataclass(frozen=True)
class Target:
    """An application and what is around it: nothing, Starlette's CORS middleware, or raincheck.

    Attributes:
        options: Raincheck's; used only with that wrapping.
    """

    app: str
    wrapping: str = "bare"
    options: Mapping[str, Any] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Tell `create` in another process to build this."""
        return {VARIABLE: json.dumps(asdict(self))}

    def build(self) -> ASGIApp:
        """Build the application here."""
        app: ASGIApp = APPLICATIONS[self.app]()
        if self.wrapping == "raincheck":
            from raincheck.asgi import RaincheckMiddleware

            return RaincheckMiddleware(app, **self.options)
        if self.wrapping == "cors":
            from starlette.middleware.cors import CORSMiddleware

            return CORSMiddleware(app, allow_origins=["*"])
        return app


def create() -> ASGIApp:
    """Build what the environment names; for `uvicorn --factory`."""
    return Target(**json.loads(os.environ[VARIABLE])).build()


def raw() -> ASGIApp:
    """Answer everything with two bytes, by no framework."""

    async def ok(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _answer(send, b"ok")

    return ok


def suspending() -> ASGIApp:
    """Answer so too, but let the event loop come round before: as one that waits for something."""

    async def ok(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(0)
            await _answer(send, b"ok")

    return ok


def starlette_json() -> Starlette:
    """Answer with JSON from a Starlette route."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def item(request: Request) -> Response:
        return JSONResponse(DOCUMENT)

    return Starlette(routes=[Route(ITEM, item)])


def fastapi_json() -> ASGIApp:
    """Answer with JSON from a FastAPI route."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.get(ITEM)
    async def item() -> dict[str, Any]:
        return DOCUMENT

    return app


def held() -> Starlette:
    """Answer with JSON from a Starlette route, and never from another."""
    from starlette.responses import JSONResponse

    app = starlette_json()

    async def hold(request: Request) -> Response:
        await asyncio.Event().wait()
        return JSONResponse(DOCUMENT)

    app.add_route("/held", hold)
    return app


def slow() -> ASGIApp:
    """Answer `/sleep/{seconds}`, `/pieces/{number}`, and `/sleepers` with how many sleep."""
    sleepers = 0

    async def sleep(seconds: str, send: Send) -> None:
        nonlocal sleepers
        sleepers += 1
        try:
            await asyncio.sleep(float(seconds))
        finally:
            sleepers -= 1
        await _answer(send, b"ok")

    async def count(_: str, send: Send) -> None:
        await _answer(send, b"%d" % sleepers)

    handlers = {"sleep": sleep, "pieces": _stream, "sleepers": count}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            name, _, argument = scope["path"][1:].partition("/")
            await handlers[name](argument, send)

    return app


async def _stream(number: str, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(int(number)):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body"})


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


APPLICATIONS: Mapping[str, Callable[[], ASGIApp]] = {
    "raw": raw,
    "raw, suspending": suspending,
    "Starlette": starlette_json,
    "FastAPI": fastapi_json,
    "held": held,
    "slow": slow,
}
