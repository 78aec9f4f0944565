"""What becomes of running operations when a server is told to stop: they end, all of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.material import content
from tests.servers.servers import SERVERS, Kind, Site, http_client
from tests.support.slow import others_slow

pytestmark = pytest.mark.server

BUDGET = 0.1  # seconds
DRAIN = 4.0  # seconds: some more than the short call takes, on a machine under load
CALLS = {
    "long": "/slow/long?seconds=600",
    "thread": "/thread/thread?seconds=9",  # can't be stopped: the process ends after it
    "short": "/slow/short?seconds=0.8&seed=1&size=300000&deferred=1",
}
PATIENCE = 60.0  # seconds for a process to end: some more than its threads take


@dataclass(frozen=True)
class Aftermath:
    """A server that was stopped while operations ran, and its successor on the same store.

    Attributes:
        paths: Where R of each call is.
        has_ended: Whether the first process ended by itself and had not to be killed.
        journal: What the application had noted when its process had ended.
    """

    kind: Kind
    client: httpx.Client
    paths: dict[str, str]
    has_ended: bool
    journal: list[str]

    def outcome(self, name: str) -> str:
        """Say how an operation ended: its state, or why it failed."""
        response = self.client.get(f"{self.paths[name]}/status")
        assert response.status_code == 200
        document = response.json()
        return str(document.get("error", {}).get("code", document["status"]))


def start_calls(site: Site) -> dict[str, str]:
    """Have all calls running as operations."""
    paths = {}
    with http_client(site.url) as client:
        for name, call in CALLS.items():
            start = client.get(call)
            assert start.status_code == 202
            paths[name] = httpx.URL(start.headers["location"]).path
    return paths


def ends(site: Site) -> bool:
    """Tell a server to stop, and whether it did."""
    try:
        site.process.terminate(PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    return True


@pytest.fixture(scope="module", params=others_slow(SERVERS), ids=lambda kind: kind.name)
def aftermath(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Aftermath]:
    directory = tmp_path_factory.mktemp("shutdown")
    options: dict[str, Any] = {
        "budget": BUDGET,
        "drain": DRAIN,
        "max_attempts": 1,
    }  # else: `test_rerunning`
    first, second = (Site(request.param, directory, **options) for _ in range(2))
    with first.process:
        paths = start_calls(first)
        has_ended = ends(first)
    journal = first.journal()
    with second.process, http_client(second.url) as client:
        yield Aftermath(request.param, client, paths, has_ended, journal)


def test_the_process_ends_although_a_thread_outlasts_the_drain(aftermath: Aftermath) -> None:
    assert aftermath.has_ended


def test_nothing_is_running_any_more_at_the_first_look_after_a_shutdown(
    aftermath: Aftermath,
) -> None:
    answers = [aftermath.client.get(path) for path in aftermath.paths.values()]
    assert [answer.status_code for answer in answers] == [500, 500, 200]


def test_a_handler_that_ends_within_the_drain_keeps_its_response(aftermath: Aftermath) -> None:
    assert aftermath.outcome("short") == "succeeded"
    assert aftermath.client.get(aftermath.paths["short"]).content == content(1, 300_000)


@pytest.mark.parametrize("name", ["long", "thread"])
def test_a_handler_that_outlasts_the_drain_is_recorded_as_ended_by_it(
    aftermath: Aftermath, name: str
) -> None:
    assert aftermath.outcome(name) == "shutdown"


def test_the_application_shuts_down_after_its_handlers_and_starts_before_them(
    aftermath: Aftermath,
) -> None:
    journal = [line for line in aftermath.journal if not line.endswith(" thread")]
    calls = ["started long", "started short", "finished short", "cancelled long"]
    if aftermath.kind.has_lifespan:
        calls = ["startup", *calls, "shutdown"]
    assert journal == calls


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [kind for kind in SERVERS[1:] if kind.has_lifespan], ids=lambda kind: kind.name
)
def test_an_application_without_lifespan_is_drained_too(kind: Kind, tmp_path: Path) -> None:
    site = Site(kind, tmp_path, app="without_lifespan", budget=BUDGET, drain=DRAIN)
    with site.process, http_client(site.url) as client:
        assert client.get("/slow/late?seconds=0.5&deferred=1").status_code == 202
        client.close()
        assert ends(site)
    assert [operation.state for operation in site.operations("/slow/late")] == ["succeeded"]
