"""Many slow requests at once do not take all of a server's threads away from the fast ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.servers.followers import wandering_client
from tests.servers.wsgi_servers import CHEROOT, GTHREAD, UWSGI, WAITRESS, WsgiKind, WsgiSite

pytestmark = [pytest.mark.server, pytest.mark.slow]

BUDGET = 4.0  # seconds; a machine under load is slow
SLOW = 1.5  # seconds that a handler takes after it has been deferred
AT_ONCE = 16  # requests, for the four threads of each server


@pytest.fixture(params=[GTHREAD[0], WAITRESS, CHEROOT, UWSGI], ids=lambda kind: kind.name)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WsgiSite]:
    kind: WsgiKind = request.param
    site = WsgiSite(kind, tmp_path, budget=BUDGET, exclude=["/bare/**"], drain=0.0)
    with site.process:
        yield site


def seconds_to_answer(client: httpx.Client, url: str, status: int) -> float:
    """Make a request and tell how long its answer took."""
    began = time.monotonic()
    assert client.get(url).status_code == status
    return time.monotonic() - began


def test_fast_requests_stay_fast_while_more_slow_ones_come_than_there_are_threads(
    site: WsgiSite,
) -> None:
    slow, fast = f"{site.url}/slow?seconds={SLOW}&deferred=1", f"{site.url}/bare/fast"
    with wandering_client() as client, ThreadPoolExecutor(AT_ONCE) as pool:
        slow_times = pool.map(lambda _: seconds_to_answer(client, slow, 202), range(AT_ONCE))
        end = time.monotonic() + BUDGET
        fast_times = []
        while time.monotonic() < end:
            fast_times.append(seconds_to_answer(client, fast, 200))
        # Without a cap the last of them would have to wait for the budgets of three before it, and
        # a fast one for as many.
        assert max(slow_times) < 3 * BUDGET
        assert max(fast_times) < 2 * BUDGET
