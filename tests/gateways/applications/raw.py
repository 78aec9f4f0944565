"""The application without a framework, for ASGI and for WSGI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from raincheck import long_running
from raincheck.asgi import RaincheckMiddleware as AsgiMiddleware
from raincheck.wsgi import RaincheckMiddleware as WsgiMiddleware
from tests.gateways.applications.handlers import Answer, Asked, Handler, in_thread, on_loop, routes
from tests.gateways.applications.variants import asgi_variants, wsgi_variants

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROUTES = {path: (handler, methods, marked) for path, handler, methods, marked in routes()}
marked_in_thread = long_running(in_thread)
marked_on_loop = long_running(on_loop)


def _refusal(path: str, method: str) -> Answer | None:
    if path not in ROUTES:
        return Answer(b"unknown\n", 404)
    methods = ROUTES[path][1]
    if method not in methods:
        return Answer(b"not like this\n", 405, headers=(("Allow", ", ".join(methods)),))
    return None


def _query(text: str) -> Mapping[str, str]:
    return dict(parse_qsl(text))


def _fields(answer: Answer) -> list[tuple[str, str]]:
    cookies = [("Set-Cookie", f"{name}={value}; Path=/") for name, value in answer.cookies]
    return [*answer.fields, *cookies]


# --- ASGI --------------------------------------------------------------------------------------


async def _read(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _send(answer: Answer, is_head: bool, send: Send) -> None:
    fields = [(n.lower().encode(), v.encode("latin-1")) for n, v in _fields(answer)]
    await send({"type": "http.response.start", "status": answer.status, "headers": fields})
    chunks = [answer.body] if isinstance(answer.body, bytes) else answer.body
    for chunk in () if is_head else chunks:
        part: Message = {"type": "http.response.body", "body": chunk, "more_body": True}
        await send(part)
    await send({"type": "http.response.body", "body": b""})


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Be the application, without raincheck."""
    assert scope["type"] == "http"
    path, method = scope["path"], scope["method"]
    answer = _refusal(path, method)
    if answer is None:
        handler, _, marked = ROUTES[path]
        asked = Asked(_query(scope["query_string"].decode()), await _read(receive))
        run = marked_on_loop if marked else on_loop
        answer = await run(handler, asked)
    await _send(answer, method == "HEAD", send)


def asgi_app() -> ASGIApp:
    """Return what an ASGI server is to serve."""
    return asgi_variants(lambda options: AsgiMiddleware(asgi, **options))


# --- WSGI --------------------------------------------------------------------------------------


def _handle(environ: WSGIEnvironment) -> Answer:
    handler: Handler
    handler, _, marked = ROUTES[environ["PATH_INFO"]]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    asked = Asked(_query(environ["QUERY_STRING"]), body)
    return (marked_in_thread if marked else in_thread)(handler, asked)


def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Be the application, without raincheck."""
    method = environ["REQUEST_METHOD"]
    answer = _refusal(environ["PATH_INFO"], method) or _handle(environ)
    start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", _fields(answer))
    if method == "HEAD":
        return []
    return [answer.body] if isinstance(answer.body, bytes) else answer.body


def wsgi_app() -> WSGIApplication:
    """Return what a WSGI server is to serve."""
    return wsgi_variants(lambda options: WsgiMiddleware(wsgi, **options))
