"""The guide to clients that wait: each block is run as it is, against the README's server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from raincheck.cli.fetch.arguments import ENDS
from raincheck.cli.options import documented
from raincheck.client import Options
from tests.examples.test_readme import APPLICATIONS, FRAMEWORKS, server
from tests.support.processes import ROOT, ServerProcess

GUIDE = (ROOT / "examples" / "clients.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("guide")
    with server(APPLICATIONS[FRAMEWORKS.index("starlette")], directory) as running:
        yield running


@pytest.mark.server
@pytest.mark.parametrize("n", range(len(BLOCKS)))
def test_a_client_of_the_guide_prints_the_report(
    n: int, running: ServerProcess, tmp_path: Path
) -> None:
    kind, text = BLOCKS[n]
    assert "localhost:8000" in text
    text = text.replace("localhost:8000", f"127.0.0.1:{running.port}")
    command = {"python": [sys.executable, "-c"], "sh": ["sh", "-ec"]}[kind]
    text = text.replace("python -m", f"{sys.executable} -m") if kind == "sh" else text
    done = subprocess.run(
        [*command, text], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip().endswith("the report"), done.stderr
    assert done.returncode == 0


def test_the_guide_has_every_option_of_the_client_as_it_is_documented() -> None:
    said = documented(Options)
    assert sorted(said) == sorted(field.name for field in fields(Options))
    for field in fields(Options):
        meaning = re.sub(r" Default: [^.]*(\.\d+)?\.$", "", said[field.name])
        row = f"| `{field.name}` | `{field.default!r}` | {meaning} |"
        assert row in GUIDE, row


def test_the_guide_has_every_exit_status_of_fetch() -> None:
    for status, meaning in re.findall(r"^  (\d+) +(.*)$", ENDS, re.MULTILINE):
        if status in ("0", "1", "2"):
            assert f"| {status} | {meaning} |" in GUIDE
        assert re.search(rf"^\| (\d+, )?{status}(, \d+)? \|", GUIDE, re.MULTILINE), status
