"""What Dramatiq's workers are started with; `TEST_BROKER` is their Redis."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from raincheck.runners import run_operation

URL = os.environ["TEST_BROKER"]
broker = RedisBroker(url=f"{URL}?socket_timeout=3")  # type: ignore[no-untyped-call]
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=0, time_limit=float("inf"))
def run(operation_id: str) -> None:
    """Run an operation."""
    run_operation("tests.runners.engines.application:app", operation_id)
