"""FastAPI and Dramatiq with Redis, by hand: the application, and what workers are started with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from tests.benchmarks.asgi_apps import DOCUMENT
from tests.benchmarks.deferring_apps import database, on_workers

if TYPE_CHECKING:
    from starlette.types import ASGIApp

broker = RedisBroker(url=database(1))  # type: ignore[no-untyped-call]
results = RedisBackend(url=database(2))
broker.add_middleware(Results(backend=results))  # type: ignore[no-untyped-call]
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def work() -> dict[str, Any]:
    """Do it."""
    return DOCUMENT


def create() -> ASGIApp:
    """Return the application."""
    return on_workers(lambda: work.send().message_id)
