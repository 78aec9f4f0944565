"""What becomes of running handlers when their server is told to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.django.postgresql import DRAINED, GUNICORN, UVICORN, Database, database, project
from tests.support.polling import poll

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture
def made() -> Iterator[Database]:
    with database() as connected:
        yield connected


def stopped(command: str, made: Database, store: Path, path: str, **options: Any) -> Any:
    """Stop a server whose handler runs; return the operation's status and how long it took."""
    with project(command, made, store, **options) as (server, client):
        accepted = client.get(path)
        assert accepted.status_code == 202
        began = time.monotonic()
        server.terminate()
        took = time.monotonic() - began
    url = accepted.headers["location"].partition(f":{server.port}")[2]
    with project(command, made, store) as (_, client):
        poll(client, url)
        return client.get(f"{url}/status").json(), took


@pytest.mark.parametrize("path", ["/sleep?seconds=1", "/sleep/async?seconds=1"])
@pytest.mark.parametrize("command", [DRAINED, GUNICORN], ids=["uvicorn", "gunicorn"])
def test_a_handler_that_runs_is_waited_for(
    made: Database, tmp_path: Path, command: str, path: str
) -> None:
    status, took = stopped(command, made, tmp_path / "s.db", path, DRAIN=60)
    assert status["status"] == "succeeded", status
    assert took < 30


def test_a_handler_within_a_sync_middleware_is_waited_for(made: Database, tmp_path: Path) -> None:
    chain = {"within": ["tests.django.project.asking_around"]}
    status, took = stopped(DRAINED, made, tmp_path / "s.db", "/sleep?seconds=1", DRAIN=60, **chain)
    assert status["status"] == "succeeded", status
    assert took < 30


@pytest.mark.parametrize("path", ["/sleep?seconds=60", "/sleep/async?seconds=60"])
@pytest.mark.parametrize("command", [DRAINED, GUNICORN], ids=["uvicorn", "gunicorn"])
def test_a_handler_is_not_waited_for_beyond_the_setting(
    made: Database, tmp_path: Path, command: str, path: str
) -> None:
    if command == GUNICORN:  # Python waits for the event loop of an async view until it is killed
        command += " --graceful-timeout 3"
    status, took = stopped(command, made, tmp_path / "s.db", path, DRAIN=0.5, MAX_ATTEMPTS=1)
    assert (status["status"], status["error"]["code"]) == ("failed", "shutdown")
    assert 0.5 < took < 30


def test_a_handler_ends_with_a_server_that_tells_nobody(made: Database, tmp_path: Path) -> None:
    path = "/sleep/async?seconds=60"
    status, took = stopped(UVICORN, made, tmp_path / "s.db", path, MAX_ATTEMPTS=1)
    assert status["status"] == "failed"
    assert status["error"]["code"] in ("shutdown", "interrupted")
    assert took < 30
