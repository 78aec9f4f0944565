"""Several processes of one server share their operations, and outlive each other."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.servers.application import content
from tests.servers.servers import ANY, Site, http_client, status, wait_until
from tests.support.processes import children

pytestmark = pytest.mark.server

BUDGET = 0.05  # seconds
REQUESTS = 500
AT_ONCE = 24
PROMPTLY = 10.0  # seconds; a lease takes 30
WORKERS = ("--workers", "2")


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    """A client that makes a new connection for each request, so that any worker may take it."""
    limits = httpx.Limits(max_keepalive_connections=0, max_connections=AT_ONCE)
    with http_client(limits=limits) as client:
        yield client


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(ANY, tmp_path, app="signed", arguments=WORKERS, budget=BUDGET, drain=0.0)
    with site.process:
        yield site


@dataclass(frozen=True)
class Report:
    """What one request came to.

    Attributes:
        is_right: Whether the body is, byte for byte, what the handler makes.
        ran_by: The process that ran the handler.
        served_by: The process that answered with its response.
    """

    start: int
    end: int
    is_right: bool
    ran_by: str
    served_by: str


def follow(client: httpx.Client, url: str, seed: int) -> Report:
    """Have one response made and fetch it as a patient client would."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    size, seconds = chance.randrange(150_000), chance.uniform(0.1, 0.4)
    query = {"seed": seed, "size": size, "seconds": seconds}
    start = response = client.get(f"{url}/slow", params=query)
    deadline = time.monotonic() + 60
    while response.status_code == 202 and time.monotonic() < deadline:
        time.sleep(0.1)
        response = client.get(start.headers["location"])
    return Report(
        start=start.status_code,
        end=response.status_code,
        is_right=response.content == content(seed, size),
        ran_by=response.headers.get("x-ran-by", ""),
        served_by=response.headers["x-answered-by"],
    )


def test_two_workers_mix_up_nothing_among_many_requests(site: Site, client: httpx.Client) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reports = list(pool.map(lambda seed: follow(client, site.url, seed), range(REQUESTS)))
    assert Counter((report.start, report.end) for report in reports) == {(202, 200): REQUESTS}
    assert [report for report in reports if not report.is_right] == []
    assert len({report.ran_by for report in reports}) == 2
    pairs = {(report.ran_by, report.served_by) for report in reports}
    assert len(pairs) == 4, "each worker also served what the other one had run"


def start_on_both(site: Site, client: httpx.Client) -> dict[str, list[httpx.Response]]:
    """Have several operations run that don't end, on each of two workers."""
    started: dict[str, list[httpx.Response]] = {}
    while len(started) < 2 or min(map(len, started.values())) < 3:
        response = client.get(f"{site.url}/blocked")
        assert response.status_code == 202
        started.setdefault(response.headers["x-answered-by"], []).append(response)
        assert sum(map(len, started.values())) < 200, "one worker answers nothing"
    return started


def outcome(client: httpx.Client, start: httpx.Response) -> str:
    """Say what M says: the state, or why it failed."""
    document = status(client, start)
    return str(document.get("error", {}).get("code", document["status"]))


def wait_for_outcome(client: httpx.Client, start: httpx.Response, expected: str) -> None:
    wait_until(lambda: outcome(client, start) == expected, f"{start.url} is {expected}")


def test_the_operations_of_a_killed_worker_and_no_others_are_interrupted_promptly(
    site: Site, client: httpx.Client
) -> None:
    started = start_on_both(site, client)
    victim, survivor = started
    os.kill(int(victim), signal.SIGKILL)
    killed = time.monotonic()
    for start in started[victim]:
        wait_for_outcome(client, start, "interrupted")
    assert time.monotonic() - killed < PROMPTLY
    assert {outcome(client, start) for start in started[survivor]} == {"running"}


def test_the_operations_of_a_killed_worker_end_though_nobody_asks_for_them(
    site: Site, client: httpx.Client
) -> None:
    started = start_on_both(site, client)
    victim = next(iter(started))
    os.kill(int(victim), signal.SIGKILL)

    def states() -> Counter[str]:
        return Counter(operation.state.value for operation in site.operations("/blocked"))

    lost = len(started.pop(victim))
    left = sum(map(len, started.values()))
    expected = {"failed": lost, "running": left}
    wait_until(lambda: states() == expected, "the survivor recovers", timeout=PROMPTLY)


def test_a_killed_worker_is_replaced_by_one_that_shows_its_operations(
    site: Site, client: httpx.Client
) -> None:
    started = start_on_both(site, client)
    victim = next(iter(started))
    os.kill(int(victim), signal.SIGKILL)

    def answers_newcomer() -> bool:
        by = client.get(f"{site.url}/operations/none").headers["x-answered-by"]
        return by not in started

    wait_until(answers_newcomer, "a third process answers")
    assert int(victim) not in children(site.process.pid)
    for start in started.pop(victim):
        wait_for_outcome(client, start, "interrupted")
    for start in started.popitem()[1]:
        assert client.delete(start.headers["location"]).status_code == 202
        wait_for_outcome(client, start, "cancelled")


def test_two_workers_without_any_option_share_their_operations(
    tmp_path: Path, client: httpx.Client
) -> None:
    site = Site(ANY, tmp_path, app="signed", arguments=WORKERS, store=False, budget=BUDGET)
    with site.process, ThreadPoolExecutor(AT_ONCE) as pool:
        reports = list(pool.map(lambda seed: follow(client, site.url, seed), range(60)))
    assert {(report.start, report.end, report.is_right) for report in reports} == {(202, 200, True)}
    assert len({(report.ran_by, report.served_by) for report in reports}) == 4
    assert len(list((tmp_path / "state").rglob("operations.db"))) == 1
