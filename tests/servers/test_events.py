"""Clients that listen to an operation, on real servers and behind a real proxy."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from tests.servers.servers import ANY, SERVERS, Kind, Site, http_client, wait_until
from tests.servers.test_long_polls import (
    AT_ONCE,
    LONG_WORK,
    POOLED,
    SAY_THAT_THEY_STOP,
    site_of,
    start,
)
from tests.servers.test_proxy import run_nginx
from tests.servers.wsgi_servers import SYNC, WsgiKind
from tests.support.processes import free_port

pytestmark = [pytest.mark.server, pytest.mark.slow]


class Listener:
    """A client that listens in a thread of this process.

    Attributes:
        heard: Each event, and when it came.
    """

    def __init__(self, url: str, path: str) -> None:
        self.heard: list[tuple[ServerSentEvent, float]] = []
        self.is_over = threading.Event()
        self._url, self._path = url, path
        threading.Thread(target=self._listen).start()

    def _listen(self) -> None:
        fields = {"Accept-Encoding": "gzip"}
        try:
            with (
                http_client(self._url) as client,
                connect_sse(client, "GET", self._path, headers=fields) as source,
            ):
                for event in source.iter_sse():
                    self.heard.append((event, time.monotonic()))
        except httpx.HTTPError:
            pass
        finally:
            self.is_over.set()

    def hears(self, kind: str) -> float:
        """Wait until such an event has come, and tell when that was."""
        wait_until(lambda: any(each.event == kind for each, _ in self.heard), kind, AT_ONCE)
        return next(moment for each, moment in self.heard if each.event == kind)


@pytest.fixture(params=[*SERVERS, *POOLED], ids=lambda kind: kind.name)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    site = site_of(request.param, tmp_path)
    with site.process:
        yield site


def test_events_come_when_they_happen_and_who_has_left_disturbs_nobody(site: Site) -> None:
    path = start(site, LONG_WORK)
    # Of a WSGI server half of the threads may be listened in, and it sees late that a client left.
    for _ in range(1 if isinstance(site.kind, WsgiKind) else 10):
        with http_client(site.url) as leaving, connect_sse(leaving, "GET", path) as source:
            next(source.iter_sse())
    ending = start(site, "/slow/ending?seconds=3&deferred=1")
    listener = Listener(site.url, ending)
    began, ended = listener.hears("status"), listener.hears("end")
    assert ended - began > 1, "the first one was held back"
    assert listener.is_over.wait(AT_ONCE)
    with http_client(site.url) as other:
        assert other.get(path).status_code == 202
    assert "Traceback" not in site.process.kill()


@pytest.mark.parametrize("kind", SAY_THAT_THEY_STOP, ids=lambda kind: kind.name)
def test_a_server_that_is_told_to_stop_waits_for_nobody_who_listens(
    kind: Kind, tmp_path: Path
) -> None:
    site = site_of(kind, tmp_path)
    with site.process:
        listener = Listener(site.url, start(site, LONG_WORK))
        listener.hears("status")
        begin = time.monotonic()
        site.process.signal(signal.SIGTERM)
        assert listener.is_over.wait(AT_ONCE)
        process = site.process.process
        assert process is not None
        wait_until(lambda: process.poll() is not None, "the server ends", AT_ONCE)
        assert time.monotonic() - begin < AT_ONCE
    assert {each.event for each, _ in listener.heard} == {"status"}


def test_where_one_thread_serves_all_nobody_listens(tmp_path: Path) -> None:
    site = site_of(SYNC[0], tmp_path)
    with site.process, http_client(site.url) as client:
        path = start(site, LONG_WORK)
        refused = client.get(path, headers={"Accept": "text/event-stream"})
        assert (refused.status_code, refused.json()["code"]) == (406, "no-events")
        assert client.get(path).status_code == 202


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_a_proxy_holds_nothing_back(tmp_path: Path) -> None:
    """By default nginx gathers what comes, and it is told here to compress everything."""
    site, port = Site(ANY, tmp_path, budget=0.05), free_port()
    with site.process:
        block = f"""
        location / {{
            proxy_pass {site.url};
            proxy_set_header Host $http_host;
            gzip on;
            gzip_types *;
            gzip_min_length 0;
            gzip_proxied any;
        }}"""
        with run_nginx(port, tmp_path, [block]):
            url = f"http://127.0.0.1:{port}"
            listener = Listener(url, start(site, "/slow/ending?seconds=3&deferred=1"))
            began, ended = listener.hears("status"), listener.hears("end")
            assert ended - began > 1, "the first one was held back"
            assert listener.is_over.wait(AT_ONCE)
