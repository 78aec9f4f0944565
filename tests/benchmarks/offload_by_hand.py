"""FastAPI, Celery and Redis, as people write it: nothing here imports raincheck."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.result import AsyncResult
from fastapi import FastAPI, Response

from tests.benchmarks.offload_work import work

REDIS = os.environ.get("TEST_REDIS", "redis://127.0.0.1:6379")

celery = Celery("by_hand", broker=f"{REDIS}/1", backend=f"{REDIS}/2")
celery.conf.broker_connection_retry_on_startup = True
app = FastAPI()
task: Any = celery.task(work)


@app.post("/work", status_code=202)
def begin(response: Response, seconds: float = 0, spins: int = 0) -> dict[str, str]:
    """Hand a task over, and say where to ask."""
    result = task.delay(seconds, spins)
    response.headers["location"] = f"/jobs/{result.id}"
    return {"id": result.id}


@app.get("/jobs/{job_id}")
def ask(job_id: str, response: Response) -> Any:
    """Say whether a task is done, and its result."""
    result = AsyncResult(job_id, app=celery)
    if result.ready():
        return result.result
    response.status_code = 202
    return None
