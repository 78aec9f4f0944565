"""Several processes of one server share their operations, and outlive each other."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.followers import (
    Report,
    follow_many,
    outcome,
    start_on_all,
    wait_for_outcome,
    wait_for_workers,
    wandering_client,
)
from tests.servers.servers import ANY, Site, wait_until
from tests.support.processes import children

pytestmark = [pytest.mark.server, pytest.mark.slow]

BUDGET = 0.05  # seconds
REQUESTS = 500
PROMPTLY = 20.0  # seconds, on a machine under load; a lease takes 30
WORKERS = ("--workers", "2")


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with wandering_client() as client:
        yield client


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    options: dict[str, Any] = {
        "budget": BUDGET,
        "drain": 0.0,
        "max_attempts": 1,
    }  # or they would be run again
    site = Site(ANY, tmp_path, app="signed", arguments=WORKERS, **options)
    with site.process:
        yield site


def pairs(reports: list[Report]) -> set[tuple[str, str]]:
    """Return who ran and who served, together."""
    return {(report.ran_by, report.served_by) for report in reports}


def are_all_pairs(reports: list[Report]) -> bool:
    """Tell whether each worker also served what the other one had run."""
    return len(pairs(reports)) == 4


def test_two_workers_mix_up_nothing_among_many_requests(site: Site, client: httpx.Client) -> None:
    wait_for_workers(client, site.url, 2)
    reports = follow_many(client, site.url, REQUESTS, are_all_pairs)
    assert len(reports) >= REQUESTS
    assert {(report.start, report.end) for report in reports} == {(202, 200)}
    assert [report for report in reports if not report.is_right] == []
    assert len({report.ran_by for report in reports}) == 2
    assert are_all_pairs(reports)


def test_the_operations_of_a_killed_worker_and_no_others_are_interrupted_promptly(
    site: Site, client: httpx.Client
) -> None:
    started = start_on_all(client, site.url, 2)
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
    started = start_on_all(client, site.url, 2)
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
    started = start_on_all(client, site.url, 2)
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
        wait_for_outcome(client, start, "canceled")


def test_two_workers_without_any_option_share_their_operations(
    tmp_path: Path, client: httpx.Client
) -> None:
    site = Site(ANY, tmp_path, app="signed", arguments=WORKERS, store=False, budget=BUDGET)
    with site.process:
        wait_for_workers(client, site.url, 2)
        reports = follow_many(client, site.url, 60, are_all_pairs)
    assert {(report.start, report.end, report.is_right) for report in reports} == {(202, 200, True)}
    assert len(pairs(reports)) == 4
    assert len(list((tmp_path / "state").rglob("operations.db"))) == 1
