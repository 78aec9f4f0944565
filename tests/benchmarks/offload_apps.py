"""What is compared where handlers run on workers: raincheck's way, and Celery by hand."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery
from celery.result import AsyncResult
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from raincheck.asgi import RaincheckMiddleware
from raincheck.runners.celery import CeleryWorkers, add_task

REDIS = os.environ.get("TEST_REDIS", "redis://127.0.0.1:6379")
MODULE = __name__
PAYLOAD = "x" * 1000

celery = Celery("offload", broker=f"{REDIS}/1", backend=f"{REDIS}/2")
celery.conf.broker_connection_retry_on_startup = True
celery.conf.worker_prefetch_multiplier = 1


def work(seconds: float, spins: int) -> dict[str, Any]:
    """Wait, then compute; say when it began."""
    begun = time.time()
    time.sleep(seconds)
    total = 0
    for n in range(spins):
        total += n * n
    return {"begun": begun, "total": total, "payload": PAYLOAD}


by_hand: Any = celery.task(work)  # as people write it


def arguments(request: Request) -> tuple[float, int]:
    """Read what is to be done from the query."""
    return float(request.query_params["seconds"]), int(request.query_params["spins"])


def here(request: Request) -> Response:
    """Do it in a thread of the web process, or wherever raincheck has it run."""
    return JSONResponse(work(*arguments(request)))


def begin(request: Request) -> Response:
    """Hand a task over, and say where to ask."""
    result = by_hand.delay(*arguments(request))
    return JSONResponse({"id": result.id}, 202, {"location": f"/jobs/{result.id}"})


def ask(request: Request) -> Response:
    """Say whether a task is done, and its result."""
    result = AsyncResult(request.path_params["id"], app=celery)
    return JSONResponse(result.result) if result.ready() else Response(status_code=202)


async def quick(request: Request) -> Response:
    """Answer at once: the neighbour of what computes."""
    return Response(b"ok")


def site(**options: Any) -> RaincheckMiddleware:
    """Return the application with raincheck around it."""
    routes = [
        Route("/here", here),
        Route("/begin", begin),
        Route("/jobs/{id}", ask),
        Route("/quick", quick),
    ]
    given: dict[str, Any] = {
        "application": "offload",
        "budget": 0.5,
        "include": ["/here"],
    } | options
    return RaincheckMiddleware(Starlette(routes=routes), **given)


in_process = site()
on_celery = site(runners={"/here": "celery"}, workers={"celery": CeleryWorkers(f"{MODULE}:celery")})
on_own = site(runners={"/here": "own"})

add_task(f"{MODULE}:on_celery", celery)
