"""An engine that closes has recorded what it can, and is done in time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raincheck.engine.engine import Engine
from raincheck.operations.operation import Operation, State
from tests.unit.engines import (
    DEFECTS,
    WHOLE,
    FaultyStore,
    Outages,
    Time,
    accept,
    answer,
    body,
    fail_for,
    poll,
    respond,
    stored,
)


class TestClosing(Outages):
    """What waits while the process ends."""

    def test_closing_records_what_waits(self, engine: Engine, store: FaultyStore) -> None:
        operation = accept(engine)
        store.faults = frozenset({"swap"})
        engine.finish(operation, answer(operation))
        engine.close()
        assert stored(engine, operation).state is State.RUNNING
        store.faults = frozenset()
        engine.close()
        assert stored(engine, operation).state is State.SUCCEEDED

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_closing_ends_well_whatever_the_store_raises(
        self, engine: Engine, store: FaultyStore, error: Exception
    ) -> None:
        operation = accept(engine)
        closed: list[bool] = []
        store.close = lambda: closed.append(True)  # type: ignore[method-assign]
        fail_for(store, "swap", operation, error)
        engine.finish(operation, answer(operation))
        engine.close()
        assert closed == [True]

    def test_closing_waits_for_the_store(self, engine: Engine, store: FaultyStore) -> None:
        operation = accept(engine)
        self.leave(store)
        respond(engine, operation)
        naps: list[float] = []

        def nap(seconds: float) -> None:
            naps.append(seconds)
            if len(naps) == 3:
                self.come_back(store)

        engine._sleep = nap
        engine.close()
        assert body(engine, poll(engine, operation.id)) == WHOLE

    def test_closing_does_not_wait_for_a_store_that_is_too_slow(
        self, engine: Engine, store: FaultyStore, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("raincheck.engine.outbox.time", SimpleNamespace(monotonic=time))
        operations = [accept(engine) for _ in range(100)]
        store.faults = frozenset({"get"})
        for operation in operations:
            engine.finish(operation, answer(operation))
        store.faults = frozenset()
        get = store.get

        def get_slowly(operation_id: str) -> Operation | None:
            time.now += 4
            return get(operation_id)

        store.get = get_slowly  # type: ignore[method-assign]
        begin = time.now
        engine.close()
        assert time.now - begin <= engine.settings.drain + 10

    def test_closing_is_bounded_too(self, engine: Engine, store: FaultyStore, time: Time) -> None:
        operations = [accept(engine) for _ in range(100)]
        store.faults = frozenset({"get"})
        for operation in operations:
            engine.finish(operation, answer(operation))
        begin = time.now
        engine.close()
        assert time.now - begin <= engine.settings.drain + 1
