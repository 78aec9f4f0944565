"""What the application and its workers have in common: where they meet, by the environment.

`TEST_BROKER`, `RAINCHECK_STORE` and `TEST_JOURNAL` say where. `TEST_LEASE`, `TEST_AGAIN`,
`TEST_LOOK` and `TEST_STEADY` are raincheck's periods in seconds, which are long.
"""

from __future__ import annotations

import os

from raincheck.engine import process, queues, recovery

BROKER = os.environ.get("TEST_BROKER", "memory://")
APP = os.environ.get("TEST_APP", "asgi")  # or wsgi
QUEUE = os.environ.get("TEST_QUEUE", "celery")


def shorten() -> None:
    """Have this process wait as long as the test says."""
    process.LEASE = float(os.environ.get("TEST_LEASE", process.LEASE))
    queues.AGAIN = float(os.environ.get("TEST_AGAIN", queues.AGAIN))
    queues.LOOK = float(os.environ.get("TEST_LOOK", queues.LOOK))
    recovery.STEADY = float(os.environ.get("TEST_STEADY", recovery.STEADY))
