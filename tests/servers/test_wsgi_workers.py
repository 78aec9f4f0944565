"""Several processes of one WSGI server share their operations, and outlive each other."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

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
from tests.servers.wsgi_servers import GEVENT, GTHREAD, SYNC, UWSGI_PROCESSES, WsgiKind, WsgiSite

pytestmark = [pytest.mark.server, pytest.mark.slow]

BUDGET = 0.02  # seconds
REQUESTS = 500
PROMPTLY = 20.0  # seconds, on a machine under load; a lease takes 30
WORKERS = 4
KINDS = [*GTHREAD, SYNC[0], GEVENT[0], UWSGI_PROCESSES]  # GTHREAD is without and with --preload


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with wandering_client() as client:
        yield client


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WsgiSite]:
    kind: WsgiKind = request.param
    kind = replace(kind, command=f"{kind.command} --workers {WORKERS}")
    # No store is named: it is the default that has to do.
    site = WsgiSite(
        kind, tmp_path, app="signed", store=False, budget=BUDGET, drain=0.0, max_attempts=1
    )
    with site.process:
        yield site


def test_four_workers_mix_up_nothing_among_many_requests(
    site: WsgiSite, client: httpx.Client, tmp_path: Path
) -> None:
    def have_all_run(reports: list[Report]) -> bool:
        return len({report.ran_by for report in reports}) == WORKERS

    wait_for_workers(client, site.url, WORKERS)
    reports = follow_many(client, site.url, REQUESTS, have_all_run)
    assert len(reports) >= REQUESTS
    assert {(report.start, report.end) for report in reports} == {(202, 200)}
    assert [report for report in reports if not report.is_right] == []
    assert have_all_run(reports)
    elsewhere = sum(report.ran_by != report.served_by for report in reports)
    assert elsewhere > len(reports) / 4, "many were served by a worker that had not run them"
    assert len(list((tmp_path / "state").rglob("operations.db"))) == 1


def test_the_operations_of_a_killed_worker_and_no_others_are_interrupted_promptly(
    site: WsgiSite, client: httpx.Client
) -> None:
    started = start_on_all(client, site.url, WORKERS)
    victim = next(iter(started))
    os.kill(int(victim), signal.SIGKILL)
    killed = time.monotonic()
    for start in started.pop(victim):
        wait_for_outcome(client, start, "interrupted")
    assert time.monotonic() - killed < PROMPTLY
    left = [start for others in started.values() for start in others]
    assert {outcome(client, start) for start in left} == {"running"}
