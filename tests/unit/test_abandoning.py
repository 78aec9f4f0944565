"""Operations that nobody asks for any more."""

from __future__ import annotations

from raincheck.engine.engine import Engine
from raincheck.operations.operation import State
from tests.unit.engines import (
    EngineTests,
    FaultyStore,
    Run,
    Time,
    keep_beating,
    make_engine,
    poll,
    start,
    stored,
)


class TestAbandoning(EngineTests):
    """What nobody wants is cancelled."""

    def test_what_nobody_asks_for_is_cancelled(self, store: FaultyStore, time: Time) -> None:
        engine, run = make_engine(store, time, abandon_after=100), Run()
        operation = start(engine, run=run)
        for _ in range(5):
            time.now += 50
            assert poll(engine, operation.id).status == 202
            engine.beat()
        assert run.cancels == 0
        keep_beating(engine, time, 95)
        time.now += 6
        engine.beat()
        assert (run.cancels, stored(engine, operation).state) == (1, State.CANCELLING)

    def test_polls_in_another_process_count(self, store: FaultyStore, time: Time) -> None:
        here, there = (make_engine(store, time, abandon_after=100) for _ in "ab")
        run = Run()
        operation = start(here, run=run)
        for _ in range(5):
            time.now += 60
            poll(there, operation.id)
            here.beat()
        assert run.cancels == 0

    def test_a_stranger_keeps_nothing_alive(self, store: FaultyStore, time: Time) -> None:
        engine, run = make_engine(store, time, abandon_after=100), Run()
        operation = start(engine, run=run, owner="ada")
        keep_beating(engine, time, 90)
        assert poll(engine, operation.id, owner="bob").status == 404
        keep_beating(engine, time, 5)
        time.now += 6
        engine.beat()
        assert run.cancels == 1

    def test_what_somebody_will_be_told_of_is_not_abandoned(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine, run = make_engine(store, time, abandon_after=100), Run()
        start(engine, run=run, webhook="https://example.org/")
        time.now += 1000
        engine.beat()
        assert run.cancels == 0

    def test_polls_write_nothing_where_it_does_not_count(self, engine: Engine, time: Time) -> None:
        operation = start(engine)
        time.now += 50
        poll(engine, operation.id)
        assert stored(engine, operation).version == operation.version
