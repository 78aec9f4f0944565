"""Requests whose process is killed or told to stop are run again by another one, for real."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.servers import SERVERS, Kind, Site, http_client, wait_until
from tests.servers.wsgi_servers import GEVENT, GTHREAD, SYNC, UWSGI_PROCESSES, WsgiKind
from tests.support.polling import poll

pytestmark = [pytest.mark.server, pytest.mark.slow]

WORKERS = 3
KILLED = [*GTHREAD, SYNC[0], GEVENT[0], UWSGI_PROCESSES]
STOPPED = [(kind, "") for kind in (GTHREAD[0], SYNC[0], GEVENT[0], UWSGI_PROCESSES, *SERVERS)]
HYPERCORN = SERVERS[2]
SEVERAL = [(kind, "--workers 2") for kind in (GTHREAD[0], SERVERS[0], SERVERS[4])]
PATIENCE = 60.0  # seconds for a process to end, on a machine under load
REQUESTS = {
    "/read": ("GET", b""),
    "/put": ("PUT", secrets.token_bytes(100_000)),
    "/retried": ("POST", secrets.token_bytes(3_000_000)),
}
QUERY = "?q=caf%C3%A9&q=%2F"


def site_of(kind: Kind, directory: Path, arguments: str = "", drain: float = 0.2) -> Site:
    """Return a server with this module's application."""
    app = "wsgi_app" if isinstance(kind, WsgiKind) else "asgi_app"
    target = f"tests.servers.rerunning_application:{app}"
    command = f"{kind.command.replace('{app}', target)} {arguments}"
    options: dict[str, Any] = {
        "budget": 0.05,
        "drain": drain,
        "retry": {"/put": True, "/retried": True},
    }
    return Site(replace(kind, command=command), directory, **options)


def _client(site: Site) -> httpx.Client:
    """Return a client that does not stay with a process that is killed."""
    return http_client(site.url, limits=httpx.Limits(max_keepalive_connections=0))


def begin(site: Site, client: httpx.Client, method: str, path: str, body: bytes) -> httpx.Response:
    """Have a request running as an operation."""
    accepted = client.request(method, path + QUERY, content=body)
    assert accepted.status_code == 202, accepted.text
    wait_until(lambda: worker_of(site, path) != 0, f"{path} in {site.journal()}")
    return accepted


def worker_of(site: Site, path: str, run: str = "first") -> int:
    """Return the process that runs a request; 0 if none does."""
    found = [line.split() for line in site.journal() if line.startswith(f"{run} {path} ")]
    return int(found[-1][2]) if found else 0


def stop(site: Site) -> None:
    """End a server as a deploy does."""
    site.process.signal(signal.SIGTERM)
    try:
        site.process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pytest.fail("it did not end")


def assert_run_again(answer: httpx.Response, body: bytes) -> None:
    """Check a response of the handler, byte for byte."""
    assert answer.status_code == 201, answer.text
    assert answer.content == QUERY[1:].encode() + body
    assert answer.headers.get_list("x-twice") == ["a", "b"]
    assert (answer.headers["content-type"], answer.headers["x-ran"]) == ("x/y", "again")


@pytest.mark.parametrize("kind", KILLED, ids=lambda kind: kind.name)
def test_what_a_killed_worker_leaves_is_run_again_by_another(
    kind: WsgiKind, tmp_path: Path
) -> None:
    site = site_of(kind, tmp_path, f"--workers {WORKERS}")
    with site.process, _client(site) as client:
        for path, (method, body) in REQUESTS.items():
            accepted = begin(site, client, method, path, body)
            first = worker_of(site, path)
            os.kill(first, signal.SIGKILL)
            assert_run_again(poll(client, accepted.headers["location"]), body)
            assert worker_of(site, path, "again") not in (0, first)
            assert len([line for line in site.journal() if f" {path} " in line]) == 2


@pytest.mark.parametrize("kind", [GTHREAD[0], SYNC[0]], ids=lambda kind: kind.name)
def test_what_may_not_be_run_again_is_interrupted(kind: WsgiKind, tmp_path: Path) -> None:
    site = site_of(kind, tmp_path, f"--workers {WORKERS}")
    with site.process, _client(site) as client:
        accepted = begin(site, client, "POST", "/once", b"order")
        os.kill(worker_of(site, "/once"), signal.SIGKILL)
        answer = poll(client, accepted.headers["location"])
        assert (answer.status_code, answer.json()["code"]) == (500, "interrupted")
        assert len(site.journal()) == 1


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [pytest.param(*case, id=f"{case[0].name}{case[1]}") for case in (*STOPPED, *SEVERAL)],
)
def test_a_server_that_stops_releases_what_may_be_run_again(
    kind: Kind, arguments: str, tmp_path: Path
) -> None:
    site = site_of(kind, tmp_path, arguments)
    accepted = {}
    with site.process, _client(site) as client:
        for path, (method, body) in REQUESTS.items():
            accepted[path] = begin(site, client, method, path, body)
        once = begin(site, client, "POST", "/once", b"order")
        time.sleep(0.5)  # uwsgi is busy until a moment after its response: no exit hooks
        stop(site)
    left = {path: site.operations(path)[0].state.value for path in (*REQUESTS, "/once")}
    assert left == dict.fromkeys(REQUESTS, "accepted") | {"/once": "failed"}
    successor = site_of(kind, tmp_path)
    with successor.process, _client(successor) as client:
        for path, (_, body) in REQUESTS.items():
            url = httpx.URL(accepted[path].headers["location"]).path
            assert_run_again(poll(client, url), body)
        url = httpx.URL(once.headers["operation-location"]).path
        assert client.get(url).json()["error"]["code"] == "shutdown"


def test_what_is_left_by_a_worker_that_its_server_kills_while_it_drains_is_run_again(
    tmp_path: Path,
) -> None:
    site = site_of(HYPERCORN, tmp_path, "--workers 2", drain=PATIENCE)
    with site.process, _client(site) as client:
        accepted = begin(site, client, "GET", "/read", b"")
        began = time.monotonic()
        stop(site)  # the other worker has nothing to do and ends: hypercorn kills this one
        assert time.monotonic() - began < PATIENCE / 2
    successor = site_of(HYPERCORN, tmp_path)
    with successor.process, _client(successor) as client:
        url = httpx.URL(accepted.headers["location"]).path
        assert_run_again(poll(client, url), b"")
