"""Purges: what is kept, for how long, and that they hold nobody up."""

from __future__ import annotations

import pytest

from raincheck.contracts import Filter
from raincheck.engine.engine import MEMORY, Engine
from tests.unit.engines import (
    RETENTION,
    EngineTests,
    FaultyStore,
    Time,
    accept,
    answer,
    make_engine,
    poll,
    stored,
)


class TestPurging(EngineTests):
    """What is over goes."""

    def test_a_response_is_kept_for_its_retention_then_known_for_a_day(
        self, engine: Engine, time: Time
    ) -> None:
        operation = accept(engine)
        engine.finish(operation, answer(operation))
        time.now += RETENTION - 1
        engine.purge()
        assert poll(engine, operation.id).status == 200
        time.now += 1
        assert poll(engine, operation.id).status == 410
        engine.purge()
        assert poll(engine, operation.id).status == 410
        time.now += MEMORY - 1
        engine.purge()
        assert poll(engine, operation.id).status == 410
        time.now += 1
        assert engine.purge()
        assert poll(engine, operation.id).status == 404

    def test_what_runs_is_never_purged(self, engine: Engine, time: Time) -> None:
        operation = accept(engine)
        time.now += 10 * MEMORY
        engine.purge()
        assert stored(engine, operation) == operation

    def test_a_purge_leaves_no_memory_that_is_over(self, engine: Engine, time: Time) -> None:
        for _ in range(1001):
            operation = accept(engine)
            engine.finish(operation, answer(operation, body=b""))
        time.now += RETENTION
        engine.purge()
        time.now += MEMORY
        engine.purge()
        assert engine.store.find(Filter()) == ([], None)

    def test_a_purge_lets_go_after_some_seconds_and_goes_on_at_the_next(
        self, store: FaultyStore, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = make_engine(store, time, retention=60)
        for _ in range(20):
            engine.finish(operation := accept(engine), answer(operation))
        time.now += 61
        discard = store.discard

        def discard_slowly(operation_id: str) -> None:
            time.now += 1
            discard(operation_id)

        monkeypatch.setattr(store, "discard", discard_slowly)
        began, turns = time.now, 0
        while not engine.purge():
            assert time.now - began < 4
            began, turns = time.now, turns + 1
        assert turns > 5
        assert not any(shelf.chunks for shelf in store._shelves.values())
