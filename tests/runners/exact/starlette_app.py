"""The application in Starlette: async handlers."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from raincheck.asgi import RaincheckMiddleware
from tests.runners.exact.material import (
    FIELDS,
    PIECES,
    RAINCHECK,
    SECRET,
    TEXT,
    WAYS,
    digest,
    marked,
    scope_of,
)

ALL = ["GET", "HEAD", "POST", "PUT", "DELETE"]


def with_fields(response: Response) -> Response:
    """Add fields of which some occur twice."""
    for name, value in FIELDS:
        response.headers.append(name, value)
    return response


async def echo(request: Request) -> Response:
    """Answer with all that is seen of the request."""
    way = request.url.path.partition("/echo/")[0].rpartition("/")[2]
    seen = {
        **scope_of(request.scope),
        "url": str(request.url),
        "query": list(request.query_params.multi_items()),
        "parameters": request.path_params,
        "cookies": request.cookies,
        "url_for": str(request.url_for(f"{way}:echo", rest="a b/ü")),
        "body": digest([await request.body()]),
    }
    return with_fields(JSONResponse(seen, 201))


async def form(request: Request) -> Response:
    """Answer with a form."""
    fields: list[Any] = []
    async with request.form() as sent:
        for name, value in sent.multi_items():
            if isinstance(value, str):
                fields.append([name, value])
            else:
                made = digest([await value.read()])
                fields.append([name, value.filename, value.content_type, made])
    return JSONResponse(fields)


async def session(request: Request) -> Response:
    """Answer with what is kept of a session; log in if asked to."""
    before = dict(request.session)
    if "login" in request.query_params:
        request.session.update(user="Müller", times=before.get("times", 0) + 1)
    return JSONResponse({"before": before})


async def text(request: Request) -> Response:
    """Answer with something to be compressed."""
    return PlainTextResponse(TEXT)


async def stream(request: Request) -> Response:
    """Answer with pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece

    return with_fields(StreamingResponse(pieces(), media_type="application/x-pieces"))


async def status(request: Request) -> Response:
    """Answer with a status and nothing else."""
    return Response(status_code=int(request.query_params["status"]), headers={"etag": '"own"'})


async def refuse(request: Request) -> Response:
    """Answer with an error of the framework's."""
    raise HTTPException(418, "short and stout", {"X-Pot": "tea"})


async def upload(request: Request) -> Response:
    """Answer with the hash of a body that is never in memory."""
    hashed, length = hashlib.sha256(), 0
    async for piece in request.stream():
        hashed.update(piece)
        length += len(piece)
    return JSONResponse({"length": length, "sha256": hashed.hexdigest()})


def routes(way: str) -> list[Route]:
    """Return the routes of one way."""
    handlers: dict[str, Any] = {"/echo/{rest:path}": echo, "/form": form, "/session": session}
    handlers |= {"/text": text, "/stream": stream, "/status": status, "/refuse": refuse}
    handlers |= {"/upload": upload}
    return [
        Route(path, marked(way, handler), methods=ALL, name=handler.__name__)
        for path, handler in handlers.items()
    ]


app = Starlette(
    routes=[Mount(f"/{way}", routes=routes(way), name=way) for way in WAYS],
    middleware=[
        Middleware(SessionMiddleware, secret_key=SECRET),
        Middleware(RaincheckMiddleware, **RAINCHECK),
        Middleware(GZipMiddleware),
    ],
)
