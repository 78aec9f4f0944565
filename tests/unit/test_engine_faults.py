"""The engine with a store that fails for a while, and what its heartbeat does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raincheck.contracts import Filter
from raincheck.engine.engine import Engine
from raincheck.engine.process import LEASE, LONG_LEASE
from raincheck.errors import StoreError
from raincheck.operations.operation import Progress, State
from tests.unit.engines import (
    EngineTests,
    FaultyStore,
    LeaseOnlyStore,
    Run,
    Time,
    accept,
    answer,
    body,
    make_engine,
    poll,
    stored,
)


class TestFaultsAndBeats(EngineTests):
    """What a failing store costs, and what a beat makes good."""

    # --- a store that fails --------------------------------------------------------------------

    @pytest.mark.parametrize("fault", ["create", "now", "incarnation"])
    def test_what_the_store_does_not_take_is_no_operation(
        self, engine: Engine, store: FaultyStore, fault: str
    ) -> None:
        store.faults = frozenset({fault})
        with pytest.raises(StoreError):
            accept(engine)
        store.faults = frozenset()
        assert store.find(Filter()) == ([], None)
        assert not engine.is_busy

    @pytest.mark.parametrize("fault", ["write_chunk", "get", "swap", "now"])
    def test_an_end_that_meets_a_failing_store_is_recorded_when_it_is_back(
        self, engine: Engine, store: FaultyStore, fault: str
    ) -> None:
        operation = accept(engine)
        store.faults = frozenset({fault})
        engine.finish(operation, answer(operation, body=b"the last chunk"))
        with pytest.raises(StoreError):
            engine.beat()
        waiting = engine.is_busy
        store.faults = frozenset()
        engine.beat()
        assert (waiting, engine.is_busy) == (True, False)
        response = poll(engine, operation.id)
        assert (response.status, body(engine, response)) == (200, b"the last chunk")

    def test_an_end_that_waits_is_not_taken_for_abandoned(
        self, lease_only: Engine, time: Time
    ) -> None:
        engine = lease_only
        assert isinstance(engine.store, LeaseOnlyStore)
        operation = accept(engine)
        engine.store.faults = frozenset({"swap"})
        engine.finish(operation, answer(operation))
        engine.store.faults = frozenset()
        time.now += 2 * LEASE
        assert engine.recover() == 0
        assert poll(engine, operation.id).status == 202
        engine.beat()
        assert poll(engine, operation.id).status == 200

    def test_one_end_that_cannot_be_recorded_costs_no_other_its_lease(
        self, lease_only: Engine, time: Time
    ) -> None:
        engine = lease_only
        assert isinstance(engine.store, LeaseOnlyStore)
        stuck, other = accept(engine), accept(engine)
        engine.store.faults = frozenset({"write_chunk"})
        engine.finish(stuck, answer(stuck))
        time.now += LEASE / 2
        with pytest.raises(StoreError):
            engine.beat()
        assert stored(engine, other).lease == time.now + LEASE

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
    def test_a_poll_that_meets_a_failing_store_may_come_again(
        self, engine: Engine, store: FaultyStore, method: str
    ) -> None:
        operation = accept(engine)
        store.faults = frozenset({"get"})
        response = poll(engine, operation.id, method)
        assert response.status == 503
        assert response.header(b"retry-after") == b"5"

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

    def test_closing_records_what_waits(self, engine: Engine, store: FaultyStore) -> None:
        operation = accept(engine)
        store.faults = frozenset({"swap"})
        engine.finish(operation, answer(operation))
        engine.close()
        assert stored(engine, operation).state is State.RUNNING
        store.faults = frozenset()
        engine.close()
        assert stored(engine, operation).state is State.SUCCEEDED

    # --- the beat ------------------------------------------------------------------------------

    def test_a_beat_carries_progress_up(self, engine: Engine, time: Time) -> None:
        operation = accept(engine)
        engine.report(operation, Progress(3, 10))
        engine.report(operation, Progress(4, 10))
        time.now += 1
        engine.beat()
        assert stored(engine, operation).progress == Progress(4, 10)
        assert stored(engine, operation).updated == time.now

    def test_a_beat_writes_nothing_where_nothing_is_new(self, engine: Engine, time: Time) -> None:
        operation = accept(engine)
        time.now += LEASE / 4
        engine.beat()
        assert stored(engine, operation) == operation

    def test_a_beat_renews_leases_well_before_they_run_out(
        self, engine: Engine, time: Time
    ) -> None:
        operation = accept(engine)
        time.now += LEASE / 2
        engine.beat()
        assert stored(engine, operation).lease == time.now + LONG_LEASE

    def test_a_beat_carries_a_cancellation_down(
        self, store: FaultyStore, time: Time, run: Run
    ) -> None:
        here, there = make_engine(store, time), make_engine(store, time)
        operation = accept(here, run)
        assert poll(there, operation.id, "DELETE").status == 202
        assert run.cancels == 0
        here.beat()
        assert run.cancels == 1

    def test_a_beat_renews_leases_where_only_they_tell_who_lives(
        self, lease_only: Engine, time: Time
    ) -> None:
        operation = accept(lease_only)
        for _ in range(10):
            time.now += LEASE / 2
            lease_only.beat()
            assert stored(lease_only, operation).lease == time.now + LEASE
        assert lease_only.recover() == 0

    @pytest.mark.parametrize("changes", [{"fence": 2}, {"state": State.FAILED, "expires": 2e6}])
    def test_a_handler_whose_lease_is_lost_is_asked_to_stop(
        self, lease_only: Engine, time: Time, run: Run, changes: dict[str, Any]
    ) -> None:
        operation = accept(lease_only, run)
        taken = replace(operation, version=2, **changes)
        assert lease_only.store.swap(operation, taken)
        time.now += LEASE / 2
        lease_only.beat()
        assert run.cancels == 1
        assert stored(lease_only, operation) == taken
