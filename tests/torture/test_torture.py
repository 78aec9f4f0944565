"""A short torture of each kind of store and server; `python -m tests.torture` runs long ones."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.torture.run import Plan, torture

pytestmark = [pytest.mark.server, pytest.mark.timeout(240)]

SEED = 20261122
SECONDS = 22.0
BUSY = ("requests", "202s", "polls", "spied", "kills", "stops", "re-runs", "KB verified")


@pytest.mark.parametrize(
    ("store", "server"),
    [
        ("sqlite", "uvicorn"),
        ("redis", "uvicorn"),
        ("postgresql", "gunicorn"),
        ("sqlite", "gunicorn"),
    ],
)
def test_whatever_happens_no_promise_is_broken(store: str, server: str, tmp_path: Path) -> None:
    report = torture(Plan(store, server, SEED, SECONDS, tmp_path))
    if report.violations:
        kept = tmp_path / "servers.log"
        sys.stderr.write(kept.read_text()[-20_000:])
    assert not report.violations, report.text()
    idle = [name for name in BUSY if not report.figures[name]]
    assert not idle, f"nothing came of it: {report.figures}"
    shutil.rmtree(tmp_path)  # bodies of many megabytes
