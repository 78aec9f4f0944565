"""An application whose handlers run on workers of the engine that `TEST_ENGINE` names.

The handler of `/report?name=…` notes `started` and `over` in the journal, with its name and its
process. With `&gate=…` it waits for that file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from raincheck import current_operation, is_rerun
from raincheck.asgi import RaincheckMiddleware
from tests.runners.periods import shorten
from tests.servers.material import OPTIONS, note

shorten()
ENGINE = os.environ["TEST_ENGINE"]


def say(what: str, name: str) -> None:
    """Note what a handler does, and in which process."""
    note(f"{what} {name} {os.getpid()}{' again' if is_rerun() else ''}")


async def report(request: Request) -> Response:
    """Answer with what was sent."""
    name, gate = request.query_params.get("name", ""), request.query_params.get("gate")
    body = await request.body()
    say("started", name)
    while gate and not await anyio.Path(gate).exists():
        current_operation().progress(1, total=2, message="begun")
        await anyio.sleep(0.02)
    say("over", name)
    response = Response(body, 201, {"x-by": request.state.engine}, "application/x-report")
    response.headers.append("x-twice", "1")
    response.headers.append("x-twice", "2")
    if gate:
        response.headers["x-process"] = str(os.getpid())
    return response


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, str]]:
    """Note when it begins and ends."""
    note(f"up {os.getpid()}")
    yield {"engine": ENGINE}
    note(f"down {os.getpid()}")


def telling() -> Mapping[str, Any]:
    """Return the options that have the engine's workers told."""
    if ENGINE == "procrastinate":
        from tests.runners.engines.procrastinate_tasks import options

        return options()
    if ENGINE == "dramatiq":
        from tests.runners.engines.dramatiq_tasks import run

        return {"workers": {"workers": run.send}}
    from tests.runners.engines.rq_tasks import tell

    return {"workers": {"workers": tell}}


both = ["GET", "POST"]
starlette = Starlette(
    routes=[Route("/report", report, methods=both), Route("/here", report, methods=both)],
    lifespan=lifespan,
)
app = RaincheckMiddleware(
    starlette, application="engines", runners={"/report": "workers"}, **telling(), **OPTIONS
)
