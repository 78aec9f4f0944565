"""Applications for `test_large_bodies`: bodies that are never whole in the server's memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import anyio

from raincheck import current_operation
from raincheck.asgi import RaincheckMiddleware as ASGIMiddleware
from raincheck.wsgi import RaincheckMiddleware as WSGIMiddleware

PIECE = 64 * 1024  # bytes
GIB = 1024 * 1024 * 1024


def pieces(size: int) -> Iterator[bytes]:
    """Yield a body in which no two places are alike."""
    for n in range(size // PIECE):
        yield n.to_bytes(8, "big") * (PIECE // 8)


async def _download(scope: Any, send: Any) -> None:
    size = int(scope["query_string"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in pieces(size):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _upload(receive: Any, send: Any) -> None:
    # So that all of it has to be kept for later.
    while current_operation().id is None:  # noqa: ASYNC110 - no event tells
        await anyio.sleep(0.01)
    found, more = hashlib.sha256(), True
    while more:
        message = await receive()
        found.update(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": found.hexdigest().encode()})


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["method"] == "GET":
        await _download(scope, send)
    else:
        await _upload(receive, send)


def _wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    if environ["REQUEST_METHOD"] == "GET":
        return pieces(int(environ["QUERY_STRING"]))
    found = hashlib.sha256()
    while piece := environ["wsgi.input"].read(PIECE):
        found.update(piece)
    return [found.hexdigest().encode()]


def _options() -> Any:
    return {
        "budget": 0,
        "bodies": os.environ.get("TEST_BODIES") or None,
        "limits": {"request_body": 2 * GIB, "response_body": 2 * GIB},
    }


def asgi() -> Any:
    """Return the ASGI application."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await _asgi(scope, receive, send)

    return ASGIMiddleware(app, **_options())


def wsgi() -> Any:
    """Return the WSGI application."""
    return WSGIMiddleware(_wsgi, **_options())
