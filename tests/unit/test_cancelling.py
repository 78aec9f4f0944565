"""Cancellations reach the handler, and count when it has stopped."""

from __future__ import annotations

import pytest

from raincheck.engine.engine import Engine
from raincheck.engine.outbox import Ending
from raincheck.errors import BodyMissing
from raincheck.operations.operation import Reason, State
from raincheck.operations.transitions import Ended
from tests.unit.engines import (
    EngineTests,
    FaultyStore,
    Run,
    Time,
    accept,
    answer,
    make_engine,
    poll,
    stored,
)


class TestCancelling(EngineTests):
    """Here and in other processes."""

    def test_a_beat_carries_a_cancellation_down(
        self, store: FaultyStore, time: Time, run: Run
    ) -> None:
        here, there = make_engine(store, time), make_engine(store, time)
        operation = accept(here, run)
        assert poll(there, operation.id, "DELETE").status == 202
        assert run.cancels == 0
        here.beat()
        assert run.cancels == 1

    def test_a_cancelled_operation_is_cancelled_only_when_its_handler_has_stopped(
        self, engine: Engine, run: Run
    ) -> None:
        operation = accept(engine, run)
        assert poll(engine, operation.id, "DELETE").status == 202
        assert run.cancels == 1
        assert stored(engine, operation).state is State.CANCELLING
        engine.finish(operation, Ending(Ended(Reason.EXCEPTION)))
        assert stored(engine, operation).state is State.CANCELLED
        assert poll(engine, operation.id).status == 410

    def test_the_response_of_a_handler_that_outran_its_cancellation_is_dropped(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        engine.cancel(operation.id)
        engine.finish(operation, answer(operation))
        assert stored(engine, operation).result is None
        with pytest.raises(BodyMissing):
            list(store.read_chunks(operation.id, operation.fence, 0, 1))
        assert poll(engine, operation.id).status == 410
