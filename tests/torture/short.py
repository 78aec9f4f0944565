"""A short torture, for the tests; `python -m tests.torture` runs long ones."""

from __future__ import annotations

import gc
import shutil
import sys
from pathlib import Path

import pytest

from tests.torture.run import plan_for, torture

SEED = 20261122
SECONDS = 15.0
# In so short a time it depends on chance whether something is run again.
BUSY = ("requests", "202s", "polls", "spied", "kills", "stops", "KB verified")
MARKS = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    # Of clients that drop a connection while asyncio opens it: it is closed when it is collected.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


def hold(store: str, server: str, directory: Path) -> None:
    """Torture one kind of server on one kind of store, and see that no promise is broken."""
    report = torture(plan_for(store, server, SEED, SECONDS, directory))
    gc.collect()  # what the clients have left, or it would be collected in another test
    if report.violations:
        kept = directory / "servers.log"
        sys.stderr.write(kept.read_text()[-20_000:])
    assert not report.violations, report.text()
    idle = [name for name in BUSY if not report.figures[name]]
    assert not idle, f"nothing came of it: {report.figures}"
    shutil.rmtree(directory)  # bodies of many megabytes
