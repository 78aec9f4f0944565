"""What clients of real servers see while the store fails: no 202 that is not kept, and no lie."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from raincheck.monitor import PROBLEM
from tests.servers.material import content
from tests.stores.failing.backends import AT_MOST, Backend, in_thread, wait_until
from tests.support.processes import ServerProcess

pytestmark = pytest.mark.server

APPLICATION = "tests.stores.failing.application"
SERVERS = {
    "uvicorn": f"-m uvicorn {APPLICATION}:asgi --port {{port}} --log-level warning",
    "gunicorn": (
        f"-m gunicorn {APPLICATION}:wsgi --bind 127.0.0.1:{{port}} --log-level warning "
        "--worker-class gthread --threads 8 --no-control-socket"
    ),
}
LEASE = 2.0  # seconds
OUTAGE = 2.5 * LEASE
RECOVERY = 2 * LEASE + 20.0  # seconds until another process has noticed, on a machine under load
MIB = 1024 * 1024
SIZES = [1000, 3 * MIB, 40 * MIB]  # one chunk, many, and more than is kept in memory


class Site:
    """A server process, and the operations that it runs for a test."""

    def __init__(self, command: str, backend: Backend, gates: Path, **options: Any) -> None:
        self._gates = gates
        environment = {
            "TEST_OPTIONS": json.dumps({"budget": 0.2, "drain": 0.5} | options),
            "TEST_GATES": str(gates),
            "TEST_LEASE": str(LEASE),
            "RAINCHECK_STORE": f"{backend.url}?timeout=1",
        }
        self.process = ServerProcess(command.split(), env=environment)
        self.client = httpx.Client(base_url=self.process.url, timeout=60.0, trust_env=False)

    def __enter__(self) -> Site:
        self.process.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()
        self.process.__exit__(None, None, None)

    def ask(
        self, name: str, size: int = 1000, *, half: bool = False, deferred: bool = False
    ) -> httpx.Response:
        """Ask for a report, which is to be deferred at once or after the budget."""
        parameters = {"name": name, "size": str(size)} | ({"half": "1"} if half else {})
        headers = {"prefer": "respond-async"} if deferred else {}
        return self.client.post("/report", params=parameters, headers=headers)

    def start(self, name: str, size: int = 1000, *, half: bool = False) -> str:
        """Begin an operation and return the path of R."""
        accepted = self.ask(name, size, half=half)
        assert accepted.status_code == 202, accepted.text
        self.wait_for(name, "started")
        return httpx.URL(accepted.headers["location"]).path

    def let(self, name: str, event: str = "go") -> None:
        """Let a handler go on."""
        (self._gates / f"{name}.{event}").touch()

    def has(self, name: str, event: str) -> bool:
        return (self._gates / f"{name}.{event}").exists()

    def wait_for(self, name: str, event: str) -> None:
        """Wait until a handler has got that far."""
        wait_until(lambda: self.has(name, event), 30.0)

    def follow(self, path: str, seconds: float = 30.0) -> httpx.Response:
        """Poll R, over 503s too, until it is something else than 202."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.client.get(path)
            if answer.status_code not in (202, 503):
                return answer
            assert time.monotonic() < deadline, f"still {answer.status_code}: {answer.text}"
            time.sleep(0.05)

    def status(self, path: str) -> dict[str, Any]:
        """Fetch M, over 503s too."""
        wait_until(lambda: self.client.get(f"{path}/status").status_code == 200)
        found: dict[str, Any] = self.client.get(f"{path}/status").json()
        return found


def assert_complete(answer: httpx.Response, size: int) -> None:
    assert answer.status_code == 201, answer.text[:500]
    assert answer.content == content(1, size)
    twice = [value for name, value in answer.headers.raw if name.lower() == b"x-twice"]
    assert twice == [b"1", b"\xff2"]


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text[:500]
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == PROBLEM.decode()


@pytest.fixture(params=SERVERS)
def command(request: pytest.FixtureRequest) -> str:
    return SERVERS[request.param]


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def site(command: str, backend: Backend, gates: Path) -> Iterator[Site]:
    with Site(command, backend, gates) as site:
        yield site


@pytest.fixture
def pair(backend: Backend, gates: Path) -> Iterator[tuple[Site, Site]]:
    """Two processes, one of each server, that share the store."""
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(Site(command, backend, gates)) for command in SERVERS.values()
        )
        yield one, two


# --- down when a request is to be accepted ----------------------------------------------------


@pytest.mark.parametrize("how", ["refuse", "swallow"])
@pytest.mark.parametrize("deferred", [False, True], ids=["by budget", "by preference"])
def test_without_a_store_a_request_is_answered_by_its_handler_and_never_202(
    site: Site, backend: Backend, how: str, deferred: bool
) -> None:
    with backend.proxy.failing(how):  # type: ignore[arg-type]  # one of the two
        asked = in_thread(lambda: site.ask("a", deferred=deferred))
        site.wait_for("a", "started")
        site.let("a")
        assert_complete(asked.result(2 * AT_MOST), 1000)
        assert_unavailable(site.client.get("/operations/0123456789abcdef0123456789abcdef"))
    path = after_recovery(site)
    assert_complete(site.follow(path), 1000)


def after_recovery(site: Site) -> str:
    """Return R of an operation that was accepted as soon as the store's return was noticed."""
    deadline = time.monotonic() + 30.0
    for n in range(1000):
        name = f"again-{n}"
        asked = in_thread(lambda name=name: site.ask(name, deferred=True))  # type: ignore[misc]
        site.wait_for(name, "started")
        site.let(name)
        answer = asked.result(AT_MOST)
        if answer.status_code == 202:
            return httpx.URL(answer.headers["location"]).path
        assert_complete(answer, 1000)
        assert time.monotonic() < deadline, "the store's return is not noticed"
    raise AssertionError("never 202")


def test_without_a_store_only_so_many_go_on_synchronously_and_the_rest_is_refused_unstarted(
    command: str, backend: Backend, gates: Path
) -> None:
    with Site(command, backend, gates, limits={"synchronous": 2}) as site:
        backend.proxy.refuse()
        going_on = [
            in_thread(lambda n=n: site.ask(f"{n}", deferred=True))  # type: ignore[misc]
            for n in range(2)
        ]
        for n in range(2):
            site.wait_for(f"{n}", "started")
        name, refused = until_refused(site)
        assert_unavailable(refused)
        assert not site.has(name, "started")
        for n, asked in enumerate(going_on):
            site.let(f"{n}")
            assert_complete(asked.result(AT_MOST), 1000)


def until_refused(site: Site) -> tuple[str, httpx.Response]:
    """Return the first request that is not answered by its handler: the failure is known then."""
    for n in range(100):
        name = f"try-{n}"
        site.let(name)
        answer = site.ask(name, deferred=True)
        if answer.status_code != 201:
            return name, answer
        time.sleep(0.02)
    raise AssertionError("a third request went on synchronously")


def test_requests_that_answer_in_time_do_not_notice_that_there_is_no_store(
    site: Site, backend: Backend
) -> None:
    with backend.proxy.failing("swallow"):
        site.let("fast")
        began = time.monotonic()
        for _ in range(20):
            assert_complete(site.ask("fast"), 1000)
        assert time.monotonic() - began < 20 * 0.2


# --- down while a handler runs, or when it is done --------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_response_that_the_store_cannot_take_is_kept_until_it_can(
    site: Site, backend: Backend, size: int
) -> None:
    path = site.start("a", size)
    with backend.proxy.failing("refuse"):
        site.let("a")
        site.wait_for("a", "finished")
        for address in (path, f"{path}/status"):
            assert_unavailable(site.client.get(address))
    assert_complete(site.follow(path), size)
    assert site.status(path)["status"] == "succeeded"


@pytest.mark.parametrize("how", ["refuse", "swallow", "kill"])
def test_a_store_that_goes_away_within_a_response_gets_the_rest_of_it_later(
    site: Site, backend: Backend, how: str
) -> None:
    size = 8 * MIB
    path = site.start("a", size, half=True)
    site.let("a")
    site.wait_for("a", "half")
    go_away, come_back = {
        "refuse": (backend.proxy.refuse, backend.proxy.forward),
        "swallow": (backend.proxy.swallow, backend.proxy.forward),
        "kill": (backend.server.kill, backend.server.start),
    }[how]
    go_away()
    site.let("a", "rest")
    site.wait_for("a", "finished")
    come_back()
    assert_complete(site.follow(path), size)


def test_many_operations_that_end_without_a_store_all_end_well(
    site: Site, backend: Backend
) -> None:
    paths = {f"{n}": site.start(f"{n}", 300_000) for n in range(6)}
    with backend.proxy.failing("refuse"):
        for name in paths:
            site.let(name)
        for name in paths:
            site.wait_for(name, "finished")
    for path in paths.values():
        assert_complete(site.follow(path), 300_000)


def test_a_cancellation_without_a_store_is_refused_and_may_be_repeated(
    site: Site, backend: Backend
) -> None:
    path = site.start("a")
    with backend.proxy.failing("refuse"):
        assert_unavailable(site.client.delete(path))
    wait_until(lambda: site.client.delete(path).status_code == 202)
    assert site.status(path)["status"] in ("cancelling", "cancelled")


# --- longer than a lease ----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["refuse", "swallow"])
def test_an_outage_longer_than_the_lease_interrupts_nothing_that_lives(
    pair: tuple[Site, Site], backend: Backend, how: str
) -> None:
    running, ended = pair[0].start("running"), pair[1].start("ended", 2 * MIB)
    with backend.proxy.failing(how):  # type: ignore[arg-type]  # one of the two
        pair[1].let("ended")
        pair[1].wait_for("ended", "finished")
        time.sleep(OUTAGE)  # the outage itself: nothing is waited for
    assert_complete(pair[0].follow(ended), 2 * MIB)
    watched = time.monotonic() + RECOVERY / 2
    while time.monotonic() < watched:
        answer = pair[1].client.get(running)
        assert answer.status_code in (202, 503), answer.text
        time.sleep(0.2)
    pair[0].let("running")
    assert_complete(pair[1].follow(running), 1000)


def test_the_operations_of_a_killed_process_are_interrupted_by_another_one(
    pair: tuple[Site, Site],
) -> None:
    path = pair[0].start("a")
    other = pair[1].start("b")
    pair[0].process.kill()
    assert pair[1].client.get(path).status_code == 202
    answer = pair[1].follow(path, RECOVERY)
    assert answer.status_code == 500
    assert pair[1].status(path)["error"]["code"] == "interrupted"
    pair[1].let("b")
    assert_complete(pair[1].follow(other), 1000)


def test_a_process_that_is_killed_while_there_is_no_store_is_missed_when_it_is_back(
    pair: tuple[Site, Site], backend: Backend
) -> None:
    path = pair[0].start("a")
    with backend.proxy.failing("refuse"):
        pair[0].process.kill()
        time.sleep(OUTAGE)  # the outage itself: nothing is waited for
    assert pair[1].follow(path, RECOVERY).status_code == 500
    assert pair[1].status(path)["error"]["code"] == "interrupted"


# --- the server is restarted, or replaced by an empty one -------------------------------------


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_restart_of_the_stores_server_harms_no_operation(
    site: Site, backend: Backend, how: str
) -> None:
    size = 4 * MIB
    before, within = site.start("before"), site.start("within", size, half=True)
    site.let("before")
    assert_complete(site.follow(before), 1000)
    site.let("within")
    site.wait_for("within", "half")
    getattr(backend, how)()
    assert_complete(site.follow(before), 1000)
    site.let("within", "rest")
    assert_complete(site.follow(within), size)


def test_after_a_failover_to_an_empty_server_a_running_operation_is_there_again(
    site: Site, backend: Backend
) -> None:
    path = site.start("a", 2 * MIB)
    backend.fail_over()
    wait_until(lambda: site.client.get(path).status_code == 202, RECOVERY)
    site.let("a")
    assert_complete(site.follow(path), 2 * MIB)


def test_a_handler_that_ends_right_after_a_failover_is_heard_of(
    site: Site, backend: Backend
) -> None:
    path = site.start("a", 2 * MIB)
    backend.fail_over()
    site.let("a")
    site.wait_for("a", "finished")
    wait_until(lambda: site.client.get(path).status_code not in (202, 404, 503), RECOVERY)
    assert_complete(site.client.get(path), 2 * MIB)


def test_a_response_of_which_a_failover_took_a_part_is_lost_and_never_mixed(
    site: Site, backend: Backend
) -> None:
    path = site.start("a", 8 * MIB, half=True)
    site.let("a")
    site.wait_for("a", "half")
    backend.fail_over()
    site.let("a", "rest")
    wait_until(lambda: site.client.get(path).status_code == 500, RECOVERY)
    assert site.status(path)["error"]["code"] == "response_lost"


# --- shutdown ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["refuse", "swallow"])
def test_a_server_can_be_stopped_though_its_store_hangs(
    site: Site, backend: Backend, how: str
) -> None:
    site.start("a", 2 * MIB)
    with backend.proxy.failing(how):  # type: ignore[arg-type]  # one of the two
        site.let("a")
        site.wait_for("a", "finished")
        site.process.signal(signal.SIGTERM)
        site.process.wait(60.0)


def test_what_waits_for_the_store_is_written_at_shutdown_if_it_is_back_by_then(
    site: Site, backend: Backend, gates: Path, command: str
) -> None:
    path = site.start("a", 2 * MIB)
    with backend.proxy.failing("refuse"):
        site.let("a")
        site.wait_for("a", "finished")
    site.process.terminate()
    with Site(command, backend, gates) as another:
        assert_complete(another.follow(path), 2 * MIB)
