"""Progress is recorded by the next beat, or with the end."""

from __future__ import annotations

import pytest

from raincheck.engine.engine import Engine
from raincheck.errors import StoreError
from raincheck.operations.operation import Progress
from tests.unit.engines import EngineTests, FaultyStore, Time, accept, answer, stored


class TestProgress(EngineTests):
    """What a handler reports."""

    def test_progress_is_not_lost_to_a_beat_that_fails(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        engine.report(operation, Progress(5, 10))
        store.faults = frozenset({"swap"})
        with pytest.raises(StoreError):
            engine.beat()
        store.faults = frozenset()
        engine.beat()
        assert stored(engine, operation).progress == Progress(5, 10)

    def test_a_beat_carries_progress_up(self, engine: Engine, time: Time) -> None:
        operation = accept(engine)
        engine.report(operation, Progress(3, 10))
        engine.report(operation, Progress(4, 10))
        time.now += 1
        engine.beat()
        assert stored(engine, operation).progress == Progress(4, 10)
        assert stored(engine, operation).updated == time.now

    def test_the_last_progress_is_recorded_with_the_end(self, engine: Engine) -> None:
        operation = accept(engine)
        engine.report(operation, Progress(10, 10, "done"))
        engine.finish(operation, answer(operation))
        assert stored(engine, operation).progress == Progress(10, 10, "done")
