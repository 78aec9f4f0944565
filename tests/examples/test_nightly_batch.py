"""The example of nightly work: started, and run by hand as cron does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.examples.running import EXAMPLES, SLOW, commands, documented, prepare, serve
from tests.support.processes import ServerProcess

NAME = "nightly_batch/app.py"
ONCE = "python -m raincheck work app:app --queue nightly --once"
LABELS = "python labels.py"
FILES = ("app.py", "labels.py")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nightly")
    prepare(NAME, path)
    return path


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[ServerProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHT_BEGINS", "0")  # now
        with serve(commands(NAME)[0], directory) as running:
            yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=SLOW) as client:
        yield client


def run(line: str, directory: Path) -> str:
    environment = {"XDG_STATE_HOME": str(directory / "state"), "RAINCHECK_STORE": ""}
    ended = subprocess.run(
        [sys.executable, *documented(NAME, line)],
        cwd=directory,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=SLOW,
        check=True,
    )
    return ended.stdout


def test_the_guide_shows_what_is_in_the_example() -> None:
    guide = (EXAMPLES / "batch.md").read_text()
    example = "".join((EXAMPLES / "nightly_batch" / name).read_text() for name in FILES)
    marks, program = re.findall(r"^```python\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    for line in [*marks.splitlines()[:2], *program.splitlines()]:
        assert line in example
    assert f"```sh\n{ONCE}\n```" in guide


@pytest.mark.slow
def test_statements_are_made_when_cron_says_so(client: httpx.Client, directory: Path) -> None:
    accepted = client.post("/statements/ada")
    assert (accepted.status_code, accepted.json()["status"]) == (202, "accepted")
    unknown = client.post("/statements/nobody")
    assert client.get(accepted.headers["location"]).status_code == 202
    assert run(ONCE, directory) == "2 run: 1 failed, 1 succeeded\n"
    done = client.get(accepted.headers["location"])
    assert (done.status_code, done.json()) == (200, {"account": "ada", "balance": 45})
    assert client.get(unknown.headers["location"]).status_code == 404


@pytest.mark.slow
def test_labels_are_printed_by_another_program(client: httpx.Client, directory: Path) -> None:
    accepted = client.post("/labels", data={"text": "fragile"})
    assert accepted.status_code == 202
    run(LABELS, directory)
    done = client.get(accepted.headers["location"])
    assert (done.status_code, done.text) == (201, "*** FRAGILE ***\n")
