"""What Procrastinate's workers are started with; `TEST_DATABASE` is theirs."""

from __future__ import annotations

import os
from typing import Any

from procrastinate import App, PsycopgConnector

from raincheck.runners.procrastinate import (
    Jobs,
    ProcrastinateStore,
    ProcrastinateWorkers,
    add_task,
)

DATABASE = os.environ["TEST_DATABASE"]
app = App(connector=PsycopgConnector(conninfo=DATABASE))
add_task("tests.runners.engines.application:app", app)


def options() -> dict[str, Any]:
    """Return those of the web process; the store may be another one, or this database."""
    if "RAINCHECK_STORE" in os.environ:
        return {"workers": {"workers": ProcrastinateWorkers(DATABASE)}}
    store = ProcrastinateStore(DATABASE, {"workers": Jobs()})
    return {"store": store, "workers": store.telling}
