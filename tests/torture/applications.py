"""The tortured applications: the same routes for Starlette and for Flask.

Every run of a handler notes in the file TEST_JOURNAL that it begins, each tenth of a second that it
goes on, and how it ends: `<event> <request> <process> <time> <number> <is a replay>`.
TORTURE_CONSTANTS lowers what raincheck has no option for, so that a short run sees leases expire.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import anyio
from flask import Flask, Response, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response as StarletteResponse
from starlette.responses import StreamingResponse
from starlette.routing import Route

from raincheck import OperationCancelled, current_operation, is_rerun, long_running
from raincheck.asgi import RaincheckMiddleware as ASGIMiddleware
from raincheck.wsgi import RaincheckMiddleware as WSGIMiddleware
from tests.servers.material import OPTIONS, note
from tests.torture.work import BEAT, NOTES, Work, from_query, response_body

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

STORES = ("sqlite", "redis", "postgresql")


def lower(constants: dict[str, float]) -> None:
    """Set numbers of raincheck's modules, wherever one of them has such a name."""
    for store in STORES:
        importlib.import_module(f"raincheck.stores.{store}")
    unknown = set(constants)
    for module in [m for name, m in sys.modules.items() if name.startswith("raincheck")]:
        for name, value in constants.items():
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, value)
                unknown.discard(name)
    if unknown:  # or the run would be another one than it says
        raise LookupError(f"raincheck has no {', '.join(unknown)} any more")


lower(json.loads(os.environ.get("TORTURE_CONSTANTS", "{}")))


class Run:
    """One run of a handler."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._nonce = secrets.randbits(32)
        self._received = b""
        self._is_rerun = is_rerun()
        self.note("begin")

    def note(self, event: str) -> None:
        """Have a side effect."""
        fields = (event, self.work.rid, os.getpid(), f"{time.monotonic():.6f}")
        note(" ".join(map(str, (*fields, self._nonce, int(self._is_rerun)))))

    def beats(self) -> Iterator[float]:
        """Yield pauses, each followed by a side effect, for as long as the work takes."""
        end = time.monotonic() + self.work.seconds
        while (left := end - time.monotonic()) > 0:
            yield min(left, BEAT)
            self.note("beat")

    def receive(self, body: bytes) -> None:
        """Take the request's body."""
        self._received = body

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The response's header fields."""
        own = {
            "Content-Type": "application/x-torture",
            "X-Rid": self.work.rid,
            "X-Nonce": str(self._nonce),
            "X-Ran-By": str(os.getpid()),
            "X-Received": hashlib.sha256(self._received).hexdigest(),
        }
        return [*own.items(), *(("X-Note", value) for value in NOTES)]

    def pieces(self) -> list[bytes]:
        """Return the response's body in as many parts as were asked for."""
        body = response_body(self.work.seed, self._nonce, self.work.size)
        size = max(1, -(-len(body) // self.work.parts))
        return [body[start : start + size] for start in range(0, len(body), size)] or [b""]


def _owner_of(token: str | None) -> str | None:
    return token.removeprefix("Bearer ") if token else None


# --- Starlette ------------------------------------------------------------------------------------


def _started(asked: Request) -> Run:
    route = asked.url.path.split("/")[1]
    rid = asked.path_params["rid"]
    return Run(from_query(rid, route, asked.method, asked.query_params))


async def work(asked: Request) -> StarletteResponse:
    run = _started(asked)
    pauses = iter(run.beats())
    await anyio.sleep(next(pauses, 0))
    run.receive(await asked.body())  # late: by then the request may have been promoted
    for pause in pauses:
        await anyio.sleep(pause)
    return _respond(run)


@long_running(retry=True)
async def again(asked: Request) -> StarletteResponse:
    return await work(asked)


def threaded(asked: Request) -> StarletteResponse:
    run = _started(asked)
    for pause in run.beats():
        time.sleep(pause)
    return _respond(run)


def checks(asked: Request) -> StarletteResponse:
    run = _started(asked)
    _check_while(run)
    return _respond(run)


async def fail(asked: Request) -> StarletteResponse:
    run = _started(asked)
    for pause in run.beats():
        await anyio.sleep(pause)
    run.note("end")
    raise RuntimeError("this handler always fails")


def _check_while(run: Run) -> None:
    for pause in run.beats():
        time.sleep(pause)
        try:
            current_operation().raise_if_cancelled()
        except OperationCancelled:
            run.note("stopped")
            raise


def _respond(run: Run) -> StarletteResponse:
    pieces = run.pieces()
    response: StarletteResponse
    if len(pieces) == 1:
        run.note("end")
        response = StarletteResponse(pieces[0], run.work.status)
    else:
        response = StreamingResponse(_stream(run, pieces), run.work.status)
    for name, value in run.headers:
        response.headers.append(name, value)
    return response


async def _stream(run: Run, pieces: list[bytes]) -> AsyncIterator[bytes]:
    yield pieces[0]
    await anyio.sleep(run.work.pause)
    for piece in pieces[1:]:
        yield piece
    run.note("end")


def _asgi_owner(scope: Any) -> str | None:
    return _owner_of(dict(scope["headers"]).get(b"authorization", b"").decode("ascii"))


def _signed_asgi(application: ASGIApp) -> ASGIApp:
    """Let every response say which process answered, raincheck's own included."""

    async def signed(scope: Scope, receive: Receive, send: Send) -> None:
        async def sign(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-answered-by", b"%d" % os.getpid())]
            await send(message)

        await application(scope, receive, sign if scope["type"] == "http" else send)

    return signed


_METHODS = ["GET", "PUT", "POST"]
_STARLETTE: dict[str, Callable[[Request], Any]] = {
    "work": work,
    "once": work,
    "again": again,
    "thread": threaded,
    "never": threaded,
    "checks": checks,
    "fail": fail,
}
_starlette = Starlette(
    routes=[Route(f"/{name}/{{rid}}", h, methods=_METHODS) for name, h in _STARLETTE.items()]
)
_starlette.add_middleware(ASGIMiddleware, owner=_asgi_owner, **OPTIONS)
asgi = _signed_asgi(_starlette)


# --- Flask ----------------------------------------------------------------------------------------


def _begun(rid: str) -> Run:
    route = request.path.split("/")[1]
    return Run(from_query(rid, route, request.method, request.args))


def flask_work(rid: str) -> Response:
    run = _begun(rid)
    pauses = iter(run.beats())
    time.sleep(next(pauses, 0))
    run.receive(request.get_data())
    for pause in pauses:
        time.sleep(pause)
    return _flask_response(run)


@long_running(retry=True)
def flask_again(rid: str) -> Response:
    return flask_work(rid)


def flask_checks(rid: str) -> Response:
    run = _begun(rid)
    _check_while(run)
    return _flask_response(run)


def flask_fail(rid: str) -> Response:
    run = _begun(rid)
    for pause in run.beats():
        time.sleep(pause)
    run.note("end")
    raise RuntimeError("this handler always fails")


def _flask_response(run: Run) -> Response:
    pieces = run.pieces()
    content: bytes | Iterable[bytes] = pieces[0]
    if len(pieces) == 1:
        run.note("end")
    else:
        content = _flask_stream(run, pieces)
    response = Response(content, run.work.status)
    del response.headers["Content-Type"]
    for name, value in run.headers:
        response.headers.add(name, value)
    return response


def _flask_stream(run: Run, pieces: list[bytes]) -> Iterator[bytes]:
    yield pieces[0]
    time.sleep(run.work.pause)
    yield from pieces[1:]
    run.note("end")


def _wsgi_owner(environ: Any) -> str | None:
    return _owner_of(environ.get("HTTP_AUTHORIZATION"))


def _signed_wsgi(application: WSGIApplication) -> WSGIApplication:
    def signed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, ("X-Answered-By", str(os.getpid()))], *error)

        return application(environ, start)

    return signed


_FLASK: dict[str, Callable[..., Response]] = {
    "work": flask_work,
    "once": flask_work,
    "again": flask_again,
    "thread": flask_work,
    "never": flask_work,
    "checks": flask_checks,
    "fail": flask_fail,
}
_flask = Flask(__name__)
for _name, _handler in _FLASK.items():
    _flask.add_url_rule(f"/{_name}/<rid>", _name, _handler, methods=_METHODS)
_flask.wsgi_app = WSGIMiddleware(_flask.wsgi_app, owner=_wsgi_owner, **OPTIONS)  # type: ignore[method-assign]
wsgi = _signed_wsgi(_flask)
