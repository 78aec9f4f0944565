"""What becomes of operations when leases run out, processes die, and stores come back or empty."""

from __future__ import annotations

import time

import pytest

from tests.stores.failing.backends import Backend, wait_until
from tests.stores.failing.sites import (
    LOOKED,
    MIB,
    OUTAGE,
    RECOVERY,
    Site,
    assert_complete,
)

pytestmark = [pytest.mark.server, pytest.mark.slow]


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
    watched = time.monotonic() + LOOKED
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
