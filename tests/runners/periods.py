"""What an application and its workers have in common: raincheck's periods, which are long.

`TEST_LEASE`, `TEST_AGAIN`, `TEST_LOOK` and `TEST_STEADY` name them, in seconds.
"""

from __future__ import annotations

import os

from raincheck.engine import process, queues, recovery


def shorten() -> None:
    """Have this process wait as long as the test says."""
    process.LEASE = float(os.environ.get("TEST_LEASE", process.LEASE))
    queues.AGAIN = float(os.environ.get("TEST_AGAIN", queues.AGAIN))
    queues.LOOK = float(os.environ.get("TEST_LOOK", queues.LOOK))
    recovery.STEADY = float(os.environ.get("TEST_STEADY", recovery.STEADY))
