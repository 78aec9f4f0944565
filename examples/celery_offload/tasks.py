"""The Celery app: tasks of its own, and the one that runs the web application's operations."""

import os

from celery import Celery

from raincheck.runners.celery import add_task

celery = Celery("tasks", broker=os.environ.get("REDIS_URL", "redis://localhost:6379") + "/1")
celery.conf.broker_connection_retry_on_startup = True

add_task("web:app", celery)  # imported by a worker's process when it is told of the first one
