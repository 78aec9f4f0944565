"""An application whose handlers take for ever at first, and answer when they are run again."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from raincheck import is_rerun
from raincheck.asgi import RaincheckMiddleware as AsgiMiddleware
from raincheck.wsgi import RaincheckMiddleware as WsgiMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from starlette.types import Receive, Scope, Send

OPTIONS: dict[str, Any] = json.loads(os.environ["TEST_OPTIONS"])
JOURNAL = Path(os.environ["TEST_JOURNAL"])
_WRITING = threading.Lock()


def _note(event: str) -> None:
    with _WRITING, JOURNAL.open("a") as journal:
        journal.write(f"{event} {os.getpid()}\n")


def _fields() -> list[tuple[str, str]]:
    return [("X-Twice", "a"), ("Content-Type", "x/y"), ("X-Twice", "b"), ("X-Ran", _ran())]


def _ran() -> str:
    return "again" if is_rerun() else "first"


def _wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    _note(f"{_ran()} {environ['PATH_INFO']}")
    while not is_rerun():
        time.sleep(0.05)
    start_response("201 Created", _fields())
    return [environ["QUERY_STRING"].encode("latin-1"), body]


async def _asgi(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise RuntimeError("there is no lifespan here")
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    _note(f"{_ran()} {scope['path']}")
    if not is_rerun():
        await anyio.sleep_forever()
    fields = [(name.lower().encode(), value.encode()) for name, value in _fields()]
    await send({"type": "http.response.start", "status": 201, "headers": fields})
    await send({"type": "http.response.body", "body": scope["query_string"] + body})


wsgi_app = WsgiMiddleware(_wsgi, **OPTIONS)
asgi_app = AsgiMiddleware(_asgi, **OPTIONS)
