"""The same slow handlers in ASGI and in WSGI, for clients that wait."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from raincheck import current_operation, long_running
from raincheck.asgi import RaincheckMiddleware
from raincheck.wsgi import RaincheckMiddleware as WSGIMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

SLOW = 0.3  # seconds; the first poll comes long before
REASONS = {200: "OK", 201: "Created", 202: "Accepted", 409: "Conflict", 503: "Unavailable"}


@long_running
async def report(request: Request) -> Response:
    """Answer with the body that came, and the status that was asked for."""
    body = await request.body()
    current_operation().progress(1, total=4, message="rendering")
    await anyio.sleep(SLOW)
    status = int(request.query_params.get("status", "200"))
    return PlainTextResponse(b"the report of " + body, status_code=status)


@long_running
async def elsewhere(request: Request) -> Response:
    """Lead on."""
    return RedirectResponse("/fast", 303)


@long_running
async def endless(request: Request) -> Response:
    """Go on until it is cancelled."""
    await anyio.sleep(600)
    return Response()


async def fast(request: Request) -> Response:
    """Answer at once."""
    return PlainTextResponse("fast")


ROUTES = [
    Route("/report", report, methods=["GET", "POST"]),
    *(Route("/elsewhere", elsewhere), Route("/endless", endless), Route("/fast", fast)),
]
asgi = RaincheckMiddleware(Starlette(routes=ROUTES), store="memory:")
see_other = RaincheckMiddleware(Starlette(routes=ROUTES), store="memory:", dialect="see-other")


def _wsgi_application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if environ["PATH_INFO"] == "/fast":
        start_response("200 OK", [])
        return [b"fast"]
    if environ["PATH_INFO"] == "/elsewhere":
        start_response("303 See Other", [("Location", "/fast")])
        return [b""]
    if environ["PATH_INFO"] == "/endless":
        while not current_operation().cancelled:
            threading.Event().wait(0.05)
    current_operation().progress(1, total=4, message="rendering")
    threading.Event().wait(SLOW)
    status = int(environ["QUERY_STRING"].removeprefix("status=") or 200)
    start_response(f"{status} {REASONS[status]}", [("Content-Type", "text/plain")])
    return [b"the report of " + body]


wsgi = WSGIMiddleware(_wsgi_application, store="memory:", budget=0.1)
