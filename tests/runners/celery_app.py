"""The Celery app of `application`, as `celery -A` is given it."""

from __future__ import annotations

from celery import Celery

from raincheck.runners.celery import add_task
from tests.runners.material import BROKER, QUEUE
from tests.runners.periods import shorten

shorten()
celery = Celery("tested", broker=BROKER)
celery.conf.update(
    task_default_queue=QUEUE,
    broker_connection_retry_on_startup=True,
    worker_enable_remote_control=False,
)
add_task("tests.runners.application:app", celery)
