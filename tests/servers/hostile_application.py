"""What hostile requests are sent to: an application that notes what reached it, in both protocols.

Each is there bare and wrapped so that every request is deferred. The first segment of a path names
what is done, the rest names the call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from raincheck import asgi, wsgi
from tests.servers.material import OPTIONS, note

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from starlette.types import Receive, Scope, Send

# Header fields that no server should send, by the name of the call.
UNSENDABLE: dict[str, list[tuple[str, str]]] = {
    "crlf": [("X-Value", "a\r\nX-Injected: yes")],
    "lf": [("X-Value", "a\nX-Injected: yes")],
    "cr": [("X-Value", "a\rX-Injected: yes")],
    "nul": [("X-Value", "a\x00b")],
    "name": [("X-Value: a\r\nX-Injected", "yes")],
    "space": [("X Value", "a")],
}


def line_of(method: str, path: str, body: bytes) -> str:
    """Describe a request in one line."""
    return f"{method} {path!a} {len(body)} {hashlib.sha256(body).hexdigest()[:8]}"


async def bare_asgi(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return await _lifespan(receive, send)
    body, more = b"", not scope["path"].startswith("/deaf")
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    line = line_of(scope["method"], scope["path"], body)
    note(line)
    fields = UNSENDABLE.get(scope["path"].rpartition("/")[2], [])
    headers = [(name.encode(), value.encode()) for name, value in fields]
    headers.append((b"content-length", b"%d" % len(line)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": line.encode()})


async def _lifespan(receive: Receive, send: Send) -> None:
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})


def bare_wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    body = b"" if path.startswith("/deaf") else _read(environ)
    line = line_of(environ["REQUEST_METHOD"], path, body)
    note(line)
    fields = UNSENDABLE.get(path.rpartition("/")[2], [])
    start_response("200 OK", [*fields, ("Content-Length", str(len(line)))])
    return [line.encode()]


def _read(environ: WSGIEnvironment) -> bytes:
    length = environ.get("CONTENT_LENGTH")
    if length:
        return bytes(environ["wsgi.input"].read(int(length)))
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return bytes(environ["wsgi.input"].read())
    return b""


wrapped_asgi = asgi.RaincheckMiddleware(bare_asgi, **OPTIONS)
wrapped_wsgi = wsgi.RaincheckMiddleware(bare_wsgi, **OPTIONS)
