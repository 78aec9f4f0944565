"""FastAPI and Celery with Redis, by hand: the application, and what workers are started with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Celery

from tests.benchmarks.asgi_apps import DOCUMENT
from tests.benchmarks.deferring_apps import database, on_workers

if TYPE_CHECKING:
    from starlette.types import ASGIApp

celery = Celery("deferring", broker=database(1), backend=database(2))
celery.conf.broker_connection_retry_on_startup = True


@celery.task  # type: ignore[untyped-decorator]
def work() -> dict[str, Any]:
    """Do it."""
    return DOCUMENT


def create() -> ASGIApp:
    """Return the application."""
    return on_workers(lambda: str(work.delay().id))
