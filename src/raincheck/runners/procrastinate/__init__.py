"""Procrastinate as the engine that runs operations: its jobs carry an id, and the store the rest.

The web process is told where Procrastinate's jobs are:

    app.add_middleware(
        RaincheckMiddleware,
        application="shop",
        store="redis://localhost/0",
        workers={"workers": ProcrastinateWorkers("postgresql://localhost/jobs")},
    )

and Procrastinate's workers, where its other tasks are, whose requests they run:

    procrastinate = App(connector=PsycopgConnector(conninfo="postgresql://localhost/jobs"))
    add_task("web:app", procrastinate)

Where operations are kept in the same database, `ProcrastinateStore` makes each of them and its job
in one transaction. Whether the web process has an app of Procrastinate's, and with which connector,
does not matter: jobs are made through connections of raincheck's own.
"""

from raincheck.runners.procrastinate.jobs import QUEUE, TASK, Jobs
from raincheck.runners.procrastinate.store import ProcrastinateStore
from raincheck.runners.procrastinate.task import add_task
from raincheck.runners.procrastinate.telling import ProcrastinateWorkers

__all__ = ["QUEUE", "TASK", "Jobs", "ProcrastinateStore", "ProcrastinateWorkers", "add_task"]
