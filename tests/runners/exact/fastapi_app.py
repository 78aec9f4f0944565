"""The application in FastAPI: what it reads for its handlers, and handlers in threads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware

from raincheck.asgi import RaincheckMiddleware
from tests.runners.exact.material import (
    PIECES,
    RAINCHECK,
    SECRET,
    TEXT,
    WAYS,
    digest,
    marked,
    scope_of,
)
from tests.runners.exact.starlette_app import ALL, with_fields


def opened() -> Iterator[str]:
    """Be a dependency that is closed after the response."""
    yield "opened"


async def body_of(request: Request) -> bytes:
    """Read the body for a handler in a thread."""
    return await request.body()


def echo(
    rest: str,
    request: Request,
    body: Annotated[bytes, Depends(body_of)],
    session: Annotated[str, Depends(opened)],
) -> Response:
    """Answer with all that is seen of the request."""
    seen = {
        **scope_of(request.scope),
        "url": str(request.url),
        "query": list(request.query_params.multi_items()),
        "parameters": {"rest": rest, "session": session},
        "cookies": request.cookies,
        "url_for": str(request.url_for("here echo", rest="a b/ü")),
        "body": digest([body]),
    }
    return with_fields(JSONResponse(seen, 201))


def form(
    files: Annotated[list[UploadFile], File(alias="Datei")],
    title: Annotated[str, Form(alias="Titel")],
) -> Any:
    """Answer with a form."""
    found: list[Any] = [["Titel", title]]
    for each in files:
        found.append(["Datei", each.filename, each.content_type, digest([each.file.read()])])
    return found


def session(request: Request) -> Any:
    """Answer with what is kept of a session; log in if asked to."""
    before = dict(request.session)
    if "login" in request.query_params:
        request.session.update(user="Müller", times=before.get("times", 0) + 1)
    return {"before": before}


async def text() -> Response:
    """Answer with something to be compressed."""
    return PlainTextResponse(TEXT)


def stream() -> Response:
    """Answer with pieces."""
    return with_fields(StreamingResponse(iter(PIECES), media_type="application/x-pieces"))


def status(status: int) -> Response:
    """Answer with a status and nothing else."""
    return Response(status_code=status, headers={"etag": '"own"'})


def refuse() -> Response:
    """Answer with an error of the framework's."""
    raise HTTPException(418, "short and stout", {"X-Pot": "tea"})


async def upload(request: Request) -> Any:
    """Answer with the hash of a body that is never in memory."""
    hashed, length = hashlib.sha256(), 0
    async for piece in request.stream():
        hashed.update(piece)
        length += len(piece)
    return {"length": length, "sha256": hashed.hexdigest()}


def router(way: str) -> APIRouter:
    """Return the routes of one way."""
    made = APIRouter(prefix=f"/{way}")
    handlers: dict[str, Any] = {"/echo/{rest:path}": echo, "/form": form, "/session": session}
    handlers |= {"/text": text, "/stream": stream, "/status": status, "/refuse": refuse}
    handlers |= {"/upload": upload}
    for path, handler in handlers.items():
        name = f"{way} {handler.__name__}"
        made.add_api_route(path, marked(way, handler), methods=ALL, name=name)
    return made


app = FastAPI()
for each in WAYS:
    app.include_router(router(each))
app.add_middleware(GZipMiddleware)
app.add_middleware(RaincheckMiddleware, **RAINCHECK)
app.add_middleware(SessionMiddleware, secret_key=SECRET)
