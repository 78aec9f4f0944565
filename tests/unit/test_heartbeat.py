"""When the thread of a process beats."""

from __future__ import annotations

import threading

from raincheck.engine.heartbeat import Heartbeat


class Work:
    """Counts beats, and holds the thread within one when told to."""

    def __init__(self) -> None:
        self.is_busy = False
        self.beats = 0
        self.has_beaten = threading.Semaphore(0)

    def beat(self) -> None:
        self.beats += 1
        self.has_beaten.release()

    def recover(self) -> int:
        return 0

    def purge(self) -> bool:
        return True


def test_who_comes_to_an_idle_heart_wakes_it_and_to_a_busy_one_does_not() -> None:
    """A busy one beats within a second anyway; thousands of others would be visited for each."""
    work = Work()
    heart = Heartbeat(work)
    try:
        heart.ensure()
        assert work.has_beaten.acquire(timeout=10)
        work.is_busy = True
        heart.ensure()
        assert work.has_beaten.acquire(timeout=10)
        (beater,) = heart._beater._of.values()
        while not beater._is_beating:
            assert work.has_beaten.acquire(timeout=10)
        beater._wake.clear()
        for _ in range(100):
            heart.ensure()
        assert not beater._wake.is_set()
    finally:
        heart.stop()
