"""The same work behind raincheck: in the web process, on Celery's workers, and on its own."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from fastapi import FastAPI

from raincheck.asgi import RaincheckMiddleware
from raincheck.runners.celery import CeleryWorkers, add_task
from tests.benchmarks.offload_work import work

REDIS = os.environ.get("TEST_REDIS", "redis://127.0.0.1:6379")
MODULE = __name__

celery = Celery("offload", broker=f"{REDIS}/1")
celery.conf.broker_connection_retry_on_startup = True


def site(**options: Any) -> RaincheckMiddleware:
    """Return the application with raincheck around it."""
    app = FastAPI()

    @app.post("/work")
    def here(seconds: float = 0, spins: int = 0) -> dict[str, Any]:
        """Do it in a thread of the web process, or wherever raincheck has it run."""
        return work(seconds, spins)

    @app.get("/quick")
    async def quick() -> str:
        """Answer at once: the neighbour of what computes."""
        return "ok"

    given: dict[str, Any] = {"application": "offload", "budget": 0.5, "include": ["/work"]}
    return RaincheckMiddleware(app, **given | options)


in_process = site()
on_celery = site(runners={"/work": "celery"}, workers={"celery": CeleryWorkers(f"{MODULE}:celery")})
on_own = site(runners={"/work": "own"})

add_task(f"{MODULE}:on_celery", celery)
