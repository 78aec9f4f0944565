"""When the thread of a process beats, and what it does in a turn."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from raincheck.engine.engine import Engine
from raincheck.engine.heartbeat import Heartbeat, _Beater
from raincheck.engine.process import LEASE
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import State
from tests.unit.engines import EngineTests, FaultyStore, Time, accept, answer, stored


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

    def share(self) -> None:
        pass


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


def turn(heartbeat: Heartbeat) -> None:
    """Have everything be due and done, in this thread."""
    work = heartbeat._work()
    assert work is not None
    beater = heartbeat._beater._of.setdefault(0, _Beater(heartbeat._work))
    beater._due = dict.fromkeys(beater._due, 0.0)
    beater._turn(work)


class TestATurn(EngineTests):
    """What one duty that fails costs the others."""

    def test_a_purge_comes_although_there_is_no_room_for_what_waits(
        self, engine: Engine, store: FaultyStore, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = accept(engine)
        engine.finish(old, answer(old))
        waiting = accept(engine)
        write = store.write_chunk

        def write_if_there_is_room(*arguments: Any) -> None:
            if stored(engine, old).result is not None:
                raise StoreUnavailable("the disk is full")
            write(*arguments)

        monkeypatch.setattr(store, "write_chunk", write_if_there_is_room)
        engine.finish(waiting, answer(waiting))
        time.now += 10_000
        beater = Heartbeat(engine)
        turn(beater)
        turn(beater)
        assert stored(engine, waiting).state is State.SUCCEEDED

    def test_a_store_that_is_away_is_logged_once(
        self, engine: Engine, store: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        accept(engine)
        beater = Heartbeat(engine)
        store.faults = frozenset({"find", "purge", "now", "get", "swap"})
        for _ in range(3):
            turn(beater)
        assert caplog.text.count("the heartbeat goes on trying") == 1
        store.faults = frozenset()
        turn(beater)
        store.faults = frozenset({"find"})
        turn(beater)
        assert caplog.text.count("the heartbeat goes on trying") == 2

    def test_a_beat_writes_nothing_where_nothing_is_new(self, engine: Engine, time: Time) -> None:
        operation = accept(engine)
        time.now += LEASE / 4
        engine.beat()
        assert stored(engine, operation) == operation
