"""What becomes of running operations when a WSGI server stops, or only one of its workers."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from tests.servers.material import content
from tests.servers.servers import http_client, wait_until
from tests.servers.wsgi_servers import (
    CHEROOT,
    GEVENT,
    GTHREAD,
    SYNC,
    UWSGI,
    WAITRESS,
    WsgiKind,
    WsgiSite,
)
from tests.support.slow import others_slow

pytestmark = pytest.mark.server

BUDGET = 0.02  # seconds
DRAIN = 3.0  # seconds: some more than the short call takes, on a machine under load
CALLS = {
    "blocked": "/blocked/blocked",  # until it is cancelled
    "stuck": "/slow/stuck?seconds=600",  # whatever happens
    "short": "/slow/short?seconds=0.7&seed=1&size=300000&deferred=1",
}
PATIENCE = 60.0  # seconds for a process to end, on a machine under load


@dataclass(frozen=True)
class End:
    """One way to stop a server."""

    kind: WsgiKind
    signal: signal.Signals = signal.SIGTERM
    module: str = "wsgi_application"

    @property
    def name(self) -> str:
        """For the names of tests."""
        parts = [self.kind.name, self.signal.name]
        return "-".join([*parts, "exiting"] if self.module == "wsgi_exiting" else parts)


# --- the whole server --------------------------------------------------------------------------

DRAINED = [
    *(End(kind) for kind in (*GTHREAD, SYNC[0], GEVENT[0], UWSGI)),
    *(End(kind, signal.SIGINT) for kind in (WAITRESS, CHEROOT)),
    *(End(kind, module="wsgi_exiting") for kind in (WAITRESS, CHEROOT)),
]


@dataclass(frozen=True)
class Aftermath:
    """A server that was stopped while operations ran, and its successor on the same store.

    Attributes:
        paths: Where R of each call is.
        has_ended: Whether the first process ended by itself and had not to be killed.
    """

    client: httpx.Client
    paths: dict[str, str]
    has_ended: bool

    def outcome(self, name: str) -> str:
        """Say how an operation ended: its state, or why it failed."""
        document = self.client.get(f"{self.paths[name]}/status").json()
        return str(document.get("error", {}).get("code", document["status"]))


def start(site: WsgiSite, call: str) -> str:
    """Have an operation running; returns the path of its R."""
    with http_client(site.url) as client:
        response = client.get(call)
    assert response.status_code == 202
    return httpx.URL(response.headers["location"]).path


def ends(site: WsgiSite, number: signal.Signals) -> bool:
    """Tell a server to stop, and whether it did."""
    time.sleep(0.5)  # uwsgi is busy until a moment after its response, and runs no exit hooks then
    site.process.signal(number)
    try:
        site.process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    return True


def stopped_and_followed(end: End, directory: Path) -> Iterator[Aftermath]:
    sites = [
        WsgiSite(end.kind, directory, module=end.module, budget=BUDGET, drain=DRAIN, max_attempts=1)
        for _ in range(2)
    ]
    with sites[0].process:
        paths = {name: start(sites[0], call) for name, call in CALLS.items()}
        has_ended = ends(sites[0], end.signal)
    # uwsgi closes connections and does not say so: a client that keeps one may lose a request.
    limits = httpx.Limits(max_keepalive_connections=0)
    with sites[1].process, http_client(sites[1].url, limits=limits) as client:
        yield Aftermath(client, paths, has_ended)


@pytest.fixture(scope="module", params=others_slow(DRAINED), ids=lambda end: end.name)
def aftermath(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Aftermath]:
    yield from stopped_and_followed(request.param, tmp_path_factory.mktemp("shutdown"))


def test_the_process_ends_although_a_handler_outlasts_the_drain(aftermath: Aftermath) -> None:
    assert aftermath.has_ended


def test_a_handler_that_ends_within_the_drain_keeps_its_response(aftermath: Aftermath) -> None:
    assert aftermath.outcome("short") == "succeeded"
    assert aftermath.client.get(aftermath.paths["short"]).content == content(1, 300_000)


@pytest.mark.parametrize("name", ["blocked", "stuck"])
def test_a_handler_that_outlasts_the_drain_is_recorded_as_ended_by_it(
    aftermath: Aftermath, name: str
) -> None:
    assert aftermath.outcome(name) == "shutdown"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [WAITRESS, CHEROOT], ids=lambda kind: kind.name)
def test_a_server_that_sigterm_kills_at_once_leaves_operations_that_are_interrupted(
    kind: WsgiKind, tmp_path: Path
) -> None:
    for aftermath in stopped_and_followed(End(kind), tmp_path):
        assert {aftermath.outcome(name) for name in CALLS} == {"interrupted"}


# --- one worker of gunicorn's ------------------------------------------------------------------

TIMEOUT = 6  # seconds; gunicorn kills a worker that it has not heard of for so long
LONG = 13.0  # seconds
HOOKED = "from raincheck.gunicorn import post_worker_init, worker_exit"
WRAPPED = """
from raincheck import gunicorn as hooks

def post_worker_init(worker):
    hooks.post_worker_init(worker)

def worker_exit(server, worker):
    hooks.worker_exit(server, worker)
"""


@dataclass(frozen=True)
class Leaving:
    """One way to have a worker leave while gunicorn stays.

    Attributes:
        configuration: The text of gunicorn's configuration file.
        seconds: How long an operation takes that runs in it.
        expected: What becomes of that operation.
    """

    kind: WsgiKind
    by: str
    configuration: str = HOOKED
    seconds: float = LONG
    expected: str = "succeeded"

    @property
    def name(self) -> str:
        """For the names of tests."""
        means = {"": "unhooked", HOOKED: "hooked", WRAPPED: "wrapped"}[self.configuration]
        return f"{self.kind.name}-{self.by}-{means}-{self.seconds}s"


LEAVING = [
    *(Leaving(k[0], by) for k in (SYNC, GTHREAD, GEVENT) for by in ("recycling", "reload")),
    Leaving(GTHREAD[1], "recycling", WRAPPED),
    # Python's own end of the process waits too, but not longer than gunicorn does.
    *(Leaving(k[0], "recycling", "", 1.0) for k in (SYNC, GTHREAD, GEVENT)),
    Leaving(GTHREAD[0], "reload", "", 1.0),
    Leaving(GTHREAD[0], "recycling", "", LONG, "interrupted"),
]


@dataclass(frozen=True)
class Left:
    """A server whose first worker has been made to leave, and where R of its operations is."""

    site: WsgiSite
    paths: list[str]

    def is_over(self) -> bool:
        """Tell whether the operations have ended; asking the server might wake its worker."""
        operations = [*self.site.operations("/slow"), *self.site.operations("/second/slow")]
        return all(operation.is_terminal for operation in operations)


def leaving_site(leaving: Leaving, directory: Path) -> WsgiSite:
    configuration = directory / "gunicorn.conf.py"
    configuration.write_text(leaving.configuration)
    recycling = "--max-requests 2" if leaving.by == "recycling" else ""
    command = (
        f"{leaving.kind.command} --config {configuration} {recycling} "
        f"--timeout {TIMEOUT} --graceful-timeout 1"
    )
    kind = replace(leaving.kind, command=command)
    return WsgiSite(kind, directory, app="pair", budget=BUDGET, drain=40.0, max_attempts=1)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Left]]:
    """All of them at once, as they mostly wait."""
    with ExitStack() as stack:
        sites = {}
        for leaving in LEAVING:
            site = leaving_site(leaving, tmp_path_factory.mktemp(leaving.kind.name))
            stack.enter_context(site.process)
            call = f"slow?seconds={leaving.seconds}&seed=2&size=1000&deferred=1"
            paths = [start(site, f"/{call}"), start(site, f"/second/{call}")]
            if leaving.by == "reload":
                site.process.signal(signal.SIGHUP)
            sites[leaving.name] = Left(site, paths)
        yield sites


@pytest.mark.slow
@pytest.mark.parametrize("leaving", LEAVING, ids=lambda leaving: leaving.name)
def test_the_operations_of_a_leaving_worker_end_as_its_configuration_lets_them(
    sites: dict[str, Left], leaving: Leaving
) -> None:
    left = sites[leaving.name]
    with http_client(left.site.url) as client:
        if leaving.expected == "interrupted":
            wait_until(lambda: client.get(left.paths[0]).status_code == 500, "somebody sees it")
        wait_until(left.is_over, f"{leaving.name} is over")
        answers = [client.get(path) for path in left.paths]
    if leaving.expected == "succeeded":
        right = (200, content(2, 1000))
        assert [(answer.status_code, answer.content) for answer in answers] == [right, right]
    else:
        assert [answer.json()["code"] for answer in answers] == [leaving.expected] * 2
