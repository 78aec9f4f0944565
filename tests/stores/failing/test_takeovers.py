"""What one process does for the operations of another that shares its store."""

from __future__ import annotations

import os
import signal
import time

import httpx
import pytest

from tests.stores.failing.backends import wait_until
from tests.stores.failing.sites import MIB, RECOVERY, Site, assert_complete
from tests.support.processes import children

pytestmark = [pytest.mark.server, pytest.mark.slow]

SIZE = 2 * MIB


def pid_of(site: Site) -> int:
    """Return the process that runs the handlers: the server itself, or gunicorn's worker."""
    return (children(site.process.pid) or [site.process.pid])[-1]


def wait_until_run_again(path: str, site: Site) -> None:
    """Poll until the handler runs again: under WSGI nobody looks who was never asked."""

    def runs() -> bool:
        return site.client.get(path).status_code == 202 and site.has("a", "started-again")

    wait_until(runs, RECOVERY)


def assert_of(site: Site, answer: httpx.Response) -> None:
    assert_complete(answer, SIZE)
    assert answer.headers["x-process"] == str(pid_of(site))


def test_what_a_killed_process_ran_is_run_again_by_another(stand_ins: tuple[Site, Site]) -> None:
    lost, other = stand_ins
    path = lost.start("a", SIZE)
    killed = pid_of(lost)
    os.kill(killed, signal.SIGKILL)
    wait_until_run_again(path, other)
    other.let("a", "go-again")
    answer = other.follow(path)
    assert_complete(answer, SIZE)
    assert answer.headers["x-process"] != str(killed)


def test_a_frozen_process_that_wakes_up_overwrites_nothing(stand_ins: tuple[Site, Site]) -> None:
    frozen, other = stand_ins
    path = frozen.start("a", SIZE)
    worker = pid_of(frozen)
    os.kill(worker, signal.SIGSTOP)
    wait_until_run_again(path, other)
    frozen.let("a")  # it ends as soon as it wakes up, while the other one works
    os.kill(worker, signal.SIGCONT)
    with frozen.stranger() as stranger:
        while not frozen.has("a", "over"):
            assert stranger.get(path).status_code == 202, "the store was there all the time"
    assert other.client.get(path).status_code == 202
    other.let("a", "go-again")
    assert_of(other, other.follow(path))
    for site in stand_ins:
        assert_of(other, site.client.get(path))


def test_what_a_stopped_process_hands_over_is_run_again_by_one_that_is_there(
    stand_ins: tuple[Site, Site],
) -> None:
    stopped, other = stand_ins
    path = stopped.start("a", SIZE)
    stopped.process.terminate()
    began = time.monotonic()
    assert other.status(path)["status"] in ("accepted", "running")
    wait_until_run_again(path, other)
    assert time.monotonic() - began < 15.0, "its lease was waited for, or a look was missed"
    other.let("a", "go-again")
    assert_of(other, other.follow(path))


def test_an_operation_can_be_cancelled_through_another_process(
    stand_ins: tuple[Site, Site],
) -> None:
    runs, other = stand_ins
    path = runs.start("a", SIZE)
    assert other.client.delete(path).status_code == 202
    wait_until(lambda: other.status(path)["status"] == "canceled")
    assert runs.has("a", "over"), "it was called cancelled before its handler had stopped"
    assert {site.client.get(path).status_code for site in stand_ins} == {410}
