"""Celery as the engine that runs operations: its messages carry an id, and the store the rest.

The web process is told how to tell Celery's workers:

    app.add_middleware(
        RaincheckMiddleware,
        application="shop",
        store="redis://localhost/0",
        workers={"workers": CeleryWorkers("tasks:celery")},
    )

and Celery's workers, where its other tasks are, whose requests they run:

    celery = Celery("tasks", broker="redis://localhost/1")
    add_task("web:app", celery)

Both are named by text, and imported when they are needed first: neither module imports the other.
"""

from raincheck.runners.celery.publishing import CeleryWorkers
from raincheck.runners.celery.task import TASK, add_task

__all__ = ["TASK", "CeleryWorkers", "add_task"]
