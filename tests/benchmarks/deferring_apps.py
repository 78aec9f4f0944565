"""Ways to have a request's work done after its answer, with FastAPI, each for `uvicorn --factory`.

Each answers `/item`, and tells at `/in-flight` how much has begun and not ended. Nobody polls here,
so no way has a route for that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import redis
from fastapi import BackgroundTasks, FastAPI, Response

from tests.benchmarks.asgi_apps import DOCUMENT, ITEM, fastapi_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

STORE = "DEFERRING_STORE"  # in the environment: raincheck's
REDIS = "DEFERRING_REDIS"  # and the others' server, without a database
IN_FLIGHT = "/in-flight"


def bare() -> ASGIApp:
    """Answer 200 with the same work."""
    return fastapi_json()


def raincheck() -> ASGIApp:
    """Have raincheck defer what its client wants deferred."""
    from raincheck.asgi import RaincheckMiddleware

    limits = {"operations": 100_000, "operations_in_store": 1_000_000}
    wrapped = RaincheckMiddleware(fastapi_json(), store=os.environ[STORE], limits=limits)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == IN_FLIGHT:
            number = len(wrapped._gateway.engine.running)
            await Response(str(number))(scope, receive, send)
        else:
            await wrapped(scope, receive, send)

    return app


def background() -> ASGIApp:
    """Have FastAPI do the work after its answer, and keep results in a dict."""
    app, begun, results = FastAPI(), list[str](), dict[str, Any]()

    async def work(job: str) -> None:
        results[job] = DOCUMENT

    @app.get(ITEM, status_code=202)
    async def begin(tasks: BackgroundTasks, response: Response) -> dict[str, str]:
        job = uuid4().hex
        begun.append(job)
        tasks.add_task(work, job)
        response.headers["location"] = f"/jobs/{job}"
        return {"id": job}

    @app.get(IN_FLIGHT)
    async def in_flight() -> int:
        return len(begun) - len(results)

    return app


def database(number: int) -> str:
    """Return the URL of a database of the others' Redis: 1 for messages, 2 for results."""
    return f"{os.environ[REDIS]}/{number}"


def on_workers(send: Callable[[], str]) -> ASGIApp:
    """Have workers do it, who keep nothing but results where results are.

    Args:
        send: Sends a message to them, and returns its id.
    """
    app, begun, results = FastAPI(), list[bool](), redis.Redis.from_url(database(2))

    @app.get(ITEM, status_code=202)
    def begin(response: Response) -> dict[str, str]:
        begun.append(True)
        job = send()
        response.headers["location"] = f"/jobs/{job}"
        return {"id": job}

    @app.get(IN_FLIGHT)
    def in_flight() -> int:
        return len(begun) - int(results.dbsize())

    return app
