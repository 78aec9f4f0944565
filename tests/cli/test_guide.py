"""The guide to the command line: each block is run as it is; what it says is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from raincheck.cli.exits import STATUSES
from raincheck.operations.operation import Progress, State
from raincheck.operations.store import Store
from tests.cli.conftest import Commands, keep, keep_response
from tests.support.processes import ROOT

GUIDE = (ROOT / "examples" / "command_line.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
TABLE = re.findall(r"^```\n(ID.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)[0]
RUNNING = "8f14e45fceea167a5a36dedd4bea2543"
ENDED = "45c48cce2e2d7fbdea1afc51c7c6ad26"


@pytest.fixture(autouse=True)
def operations(store: Store) -> None:
    progress = Progress(3, 10, "rendering")
    request = {"method": "POST", "route": "/exports/all", "owner": "ann"}
    keep(store, RUNNING, State.RUNNING, 65.0, progress=progress, **request)
    keep_response(store, ENDED, b"the report", age=7_500.0)
    keep(store, "0" * 32, State.FAILED, 600.0)
    keep(store, "1" * 32, State.FAILED, 4 * 86_400.0)


@pytest.mark.server
@pytest.mark.parametrize("n", range(len(BLOCKS)))
def test_a_block_of_the_guide_runs(n: int, tmp_path: Path) -> None:
    text = BLOCKS[n].replace("python -", f"{sys.executable} -")
    done = subprocess.run(
        ["sh", "-ec", text], cwd=tmp_path, env=os.environ, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    if "> report.txt" in text:
        assert (tmp_path / "report.txt").read_bytes() == b"the report"
        assert done.stdout.endswith(b"\r\n\r\nthe report")
    if "import json" in text:
        assert done.stdout == b"interrupted\n"


def test_the_table_of_the_guide_is_what_list_prints(raincheck: Commands) -> None:
    shown = raincheck("list", "--state=running").out
    assert re.sub(r"1m \ds", "1m 5s", shown) == TABLE


def test_the_guide_and_the_help_have_every_exit_status(raincheck: Commands) -> None:
    statuses = re.findall(r"^  (\d+) +(.*)$", STATUSES, re.MULTILINE)
    assert len(statuses) == 4
    for status, meaning in statuses:
        assert f"| {status} | {meaning} |" in GUIDE
    for command in (["list"], ["show"], ["cancel"], ["purge"], ["store"], ["store", "info"]):
        assert STATUSES in raincheck(*command, "--help").out
