"""What clients of real servers see while the store fails: no 202 that is not kept, and no lie."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.stores.failing.backends import AT_MOST, Backend, in_thread, wait_until
from tests.stores.failing.sites import (
    MIB,
    SIZES,
    Site,
    assert_complete,
    assert_unavailable,
)

pytestmark = [pytest.mark.server, pytest.mark.slow]


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
    while time.monotonic() < deadline:
        name = f"again-{time.monotonic_ns()}"
        asked = in_thread(lambda name=name: site.ask(name, deferred=True))  # type: ignore[misc]
        site.wait_for(name, "started")
        site.let(name)
        answer = asked.result(AT_MOST)
        if answer.status_code == 202:
            return httpx.URL(answer.headers["location"]).path
        assert_complete(answer, 1000)
    raise AssertionError("the store's return is not noticed")


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
        times = []
        for _ in range(20):
            began = time.monotonic()
            assert_complete(site.ask("fast"), 1000)
            times.append(time.monotonic() - began)
        # A machine under load may hold up a few of them.
        assert sum(sorted(times)[:15]) < 15 * 0.2


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
    assert site.status(path)["status"] in ("cancelling", "canceled")


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
    backend: Backend, gates: Path, command: str
) -> None:
    with Site(command, backend, gates, drain=5.0) as site:
        path = site.start("a", 2 * MIB)
        with backend.proxy.failing("refuse"):
            site.let("a")
            site.wait_for("a", "finished")
        site.process.terminate()
    with Site(command, backend, gates) as another:
        assert_complete(another.follow(path), 2 * MIB)
