"""An application whose handlers run on Celery's workers, for ASGI or for WSGI.

Each handler of `/report?name=…` notes `started`, `over` and more in the journal, with its name and
its process. With `&seconds=…` it takes so long, with progress; with `&gate=…` it waits for a file;
with `&who` the body is the id of its process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
from flask import Flask
from flask import Response as FlaskResponse
from flask import request as flask_request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from raincheck import current_operation, is_rerun, long_running
from raincheck.asgi import RaincheckMiddleware as ASGIMiddleware
from raincheck.runners.celery import CeleryWorkers
from raincheck.wsgi import RaincheckMiddleware as WSGIMiddleware
from tests.runners.material import APP, QUEUE
from tests.runners.periods import shorten
from tests.servers.material import OPTIONS, content, note

shorten()
IMPORTED = os.getpid()  # a pool of connections that is made here must not be shared with a fork
WORKERS = {"workers": CeleryWorkers("tests.runners.celery_app:celery", queue=QUEUE)}


def say(what: str, name: str) -> None:
    """Note what a handler does, and in which process."""
    note(f"{what} {name} {os.getpid()}{' again' if is_rerun() else ''}")


async def report(request: Request) -> Response:
    """Build a report of so many bytes."""
    asked, body = request.query_params, await request.body()
    name, operation = asked.get("name", ""), current_operation()
    say("started", name)
    try:
        await _work(float(asked.get("seconds", 0)), asked.get("gate"))
    finally:
        say("over", name)
    operation.progress(10, total=10, message="done")
    made = content(1, int(asked.get("size", 1000))) + body
    if "who" in asked:
        made = b"%d" % os.getpid()
    response = Response(made, 201, media_type="application/x-report")
    response.headers.append("x-twice", "1")
    response.headers.append("x-twice", "\xff2")
    response.headers["x-state"] = await greeted(request)
    response.headers["x-imported"] = "here" if os.getpid() == IMPORTED else "before a fork"
    return response


async def _work(seconds: float, gate: str | None) -> None:
    operation, end = current_operation(), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 or (gate and not await anyio.Path(gate).exists()):
        if seconds:
            operation.progress(round(min(seconds, seconds - left), 1), total=seconds)
        await anyio.sleep(0.05)


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, asyncio.Queue[asyncio.Future[str]]]]:
    """Note when it begins and ends; greet whoever asks, in this event loop."""
    note(f"up {os.getpid()}")
    asked = asyncio.Queue[asyncio.Future[str]]()

    async def greet() -> None:
        while True:
            (await asked.get()).set_result("hello")

    greeting = asyncio.create_task(greet())
    yield {"asked": asked}
    greeting.cancel()
    note(f"down {os.getpid()}")


async def greeted(request: Request) -> str:
    """Ask what belongs to the event loop of the lifespan; in another one it would never answer."""
    answer = asyncio.get_running_loop().create_future()
    request.state.asked.put_nowait(answer)
    return str(await asyncio.wait_for(answer, 5))


async def here(request: Request) -> Response:
    """Build the same report, in the web process."""
    return await report(request)


both = ["GET", "POST"]
starlette = Starlette(
    routes=[
        Route("/report", long_running(runner="workers")(report), methods=both),
        Route("/by-path", report, methods=both),
        Route("/here", here, methods=both),
    ],
    lifespan=lifespan,
)

flask = Flask(__name__)


@flask.route("/by-path", methods=both)
@flask.route("/here", methods=both)
def flask_report() -> FlaskResponse:
    """Build a report of so many bytes."""
    asked, body = flask_request.args, flask_request.get_data()
    name, gate = asked.get("name", ""), asked.get("gate")
    say("started", name)
    try:
        end = time.monotonic() + float(asked.get("seconds", 0))
        current_operation().progress(1, total=2)
        while time.monotonic() < end or (gate and not Path(gate).exists()):
            current_operation().raise_if_cancelled()
            time.sleep(0.02)
    finally:
        say("over", name)
    made = content(1, int(asked.get("size", 1000))) + body
    response = FlaskResponse(made, 201, mimetype="application/x-report")
    response.headers.add("X-Twice", "1")
    response.headers.add("X-Twice", "\xff2")
    return response


marked = long_running(runner="workers")(flask_report)
flask.add_url_rule("/report", "marked", marked, methods=both)

options: dict[str, Any] = {
    "application": "tested",
    "workers": WORKERS,
    "runners": {"/by-path": "workers"},
}
app: ASGIMiddleware | WSGIMiddleware
if APP == "asgi":
    app = ASGIMiddleware(starlette, **options, **OPTIONS)
else:
    app = WSGIMiddleware(flask, **options, **OPTIONS)
