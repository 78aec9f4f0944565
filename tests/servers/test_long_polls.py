"""Clients that wait for the end of an operation, on real servers."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers.servers import SERVERS, TIMEOUT, Kind, Site, http_client, wait_until
from tests.servers.wsgi_servers import GEVENT, GTHREAD, WSGI_SERVERS, WsgiKind, WsgiSite

pytestmark = [pytest.mark.server, pytest.mark.slow]

LONG = {"Prefer": "wait=25"}
AT_ONCE = 18.0  # seconds; a machine under load is slow
LONG_WORK = "/slow/long?seconds=600"
POOLED = [kind for kind in WSGI_SERVERS if kind.pool != 1]  # an only thread does not wait
# The others tell nobody that they stop until all clients are served, or cut them off.
SAY_THAT_THEY_STOP = [*SERVERS[:2], GTHREAD[0], GEVENT[0]]


def site_of(kind: Kind, directory: Path) -> Site:
    kind_of_site = WsgiSite if isinstance(kind, WsgiKind) else Site
    return kind_of_site(kind, directory, budget=0.05, drain=0.5)  # type: ignore[arg-type]  # its own


class Client:
    """A client that waits in a thread of this process."""

    def __init__(self, site: Site, path: str) -> None:
        self.status = 0
        self.applied: str | None = None
        self.sent = threading.Event()
        self._site, self._path = site, path
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()
        assert self.sent.wait(AT_ONCE)

    def _wait(self) -> None:
        def say(request: httpx.Request) -> None:
            self.sent.set()

        with http_client(self._site.url, event_hooks={"request": [say]}) as client:
            response = client.get(self._path, headers=LONG)
            self.status = response.status_code
            self.applied = response.headers.get("preference-applied")

    def has_answer_within(self, seconds: float) -> bool:
        """Tell whether it is answered in time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()


@pytest.fixture(params=[*SERVERS, *POOLED], ids=lambda kind: kind.name)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    site = site_of(request.param, tmp_path)
    with site.process:
        yield site


def start(site: Site, path: str) -> str:
    """Have a request deferred; return the path of R."""
    with http_client(site.url) as client:
        accepted = client.get(path)
        assert accepted.status_code == 202
        return httpx.URL(accepted.headers["location"]).path


def test_whoever_waits_is_answered_at_the_end_and_who_has_left_disturbs_nobody(site: Site) -> None:
    path = start(site, LONG_WORK)
    # A WSGI server does not see that a client leaves, and only half of its threads may wait.
    for _ in range(1 if isinstance(site.kind, WsgiKind) else 10):
        with http_client(site.url) as leaving, pytest.raises(httpx.ReadTimeout):
            leaving.get(path, headers=LONG, timeout=httpx.Timeout(TIMEOUT, read=0.3))
    ending = start(site, "/slow/ending?seconds=2&deferred=1")
    client = Client(site, ending)
    assert client.has_answer_within(AT_ONCE)
    assert (client.status, client.applied) == (200, "wait=25")
    with http_client(site.url) as other:
        assert other.get(path).status_code == 202
    assert "Traceback" not in site.process.kill()


@pytest.mark.parametrize("kind", SAY_THAT_THEY_STOP, ids=lambda kind: kind.name)
def test_a_server_that_is_told_to_stop_waits_for_no_client_that_waits(
    kind: Kind, tmp_path: Path
) -> None:
    site = site_of(kind, tmp_path)
    with site.process:
        path = start(site, LONG_WORK)
        client = Client(site, path)
        time.sleep(3)  # nothing tells that a request has arrived, be the machine slow or not
        begin = time.monotonic()
        site.process.signal(signal.SIGTERM)
        assert client.has_answer_within(AT_ONCE)
        assert (client.status, client.applied) == (202, "wait=25")
        process = site.process.process
        assert process is not None
        wait_until(lambda: process.poll() is not None, "the server ends", AT_ONCE)
        assert time.monotonic() - begin < AT_ONCE
