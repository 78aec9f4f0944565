"""What RQ's workers are started with; `TEST_BROKER` is their Redis."""

from __future__ import annotations

import os

from redis import Redis
from rq import Queue

from raincheck.runners import run_operation

queue = Queue(
    "raincheck",
    connection=Redis.from_url(os.environ["TEST_BROKER"], socket_timeout=3),
    default_timeout=-1,
)
IS_FORKING = os.environ.get("TEST_WORKER") != "SimpleWorker"


def run(operation_id: str) -> None:
    """Run an operation."""
    run_operation("tests.runners.engines.application:app", operation_id, close=IS_FORKING)


def tell(operation_id: str) -> None:
    """Tell RQ's workers of an operation."""
    queue.enqueue(run, operation_id)
