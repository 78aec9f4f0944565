"""Leases: renewed in time, lost, run out in an outage, and judged by a clock that leaps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raincheck.engine.engine import Engine
from raincheck.engine.process import LEASE, LONG_LEASE
from raincheck.engine.recovery import STEADY
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.operations.operation import Progress, Reason, State
from tests.unit.engines import (
    DEFECTS,
    EngineTests,
    FaultyStore,
    LeaseOnlyStore,
    Outages,
    Run,
    Time,
    accept,
    answer,
    body,
    fail_for,
    look,
    make_engine,
    poll,
    start,
    stored,
)


class TestRenewal(EngineTests):
    """What a beat does for those who run here."""

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

    def test_a_beat_renews_leases_well_before_they_run_out(
        self, engine: Engine, time: Time
    ) -> None:
        operation = accept(engine)
        time.now += LEASE / 2
        engine.beat()
        assert stored(engine, operation).lease == time.now + LONG_LEASE

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

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_one_lease_that_cannot_be_renewed_costs_no_other(
        self, lease_only: Engine, time: Time, error: Exception
    ) -> None:
        assert isinstance(lease_only.store, FaultyStore)
        run = Run()
        refused, fine = accept(lease_only), accept(lease_only, run)
        store = lease_only.store
        fine_cancelled = lease_only.cancel(fine.id)
        assert fine_cancelled is not None
        run.cancels = 0
        fail_for(store, "swap", refused, error)
        time.now += LEASE / 2
        lease_only.report(refused, Progress(1))
        with pytest.raises(type(error)):
            lease_only.beat()
        assert stored(lease_only, fine).lease == time.now + LEASE
        assert run.cancels

    def test_a_lease_begins_when_the_request_is_kept(
        self, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        leases = LeaseOnlyStore(clock=time)
        engine, other = make_engine(leases, time), make_engine(leases, time)
        look(other, time, 20)
        write = leases.write_chunk

        def write_slowly(*chunk: Any) -> None:
            time.now += LEASE / 2 - 1
            engine.beat()
            other.recover()
            write(*chunk)

        with monkeypatch.context() as patched:
            patched.setattr(leases, "write_chunk", write_slowly)
            operation = start(engine)  # of three chunks
        other.recover()
        assert stored(engine, operation).state is State.RUNNING
        assert stored(engine, operation).lease == time.now + LEASE


class TestWhoLives(Outages):
    """Leases that ran out while nobody could renew them."""

    def test_an_outage_ends_no_operation_of_those_who_live(self, time: Time) -> None:
        store = LeaseOnlyStore(clock=time)
        here, there = make_engine(store, time), make_engine(store, time)
        operation = accept(here)
        there.recover()
        time.now += LEASE / 2
        self.leave(store)
        for engine in (here, there):
            with pytest.raises(StoreUnavailable):
                engine.beat() if engine is here else engine.recover()
        time.now += 2 * LEASE
        self.come_back(store)
        assert there.recover() == 0
        assert poll(there, operation.id).status == 202
        here.beat()
        time.now += LEASE / 2
        assert there.recover() == 0
        here.finish(operation, answer(operation))
        assert poll(there, operation.id).status == 200

    def test_an_end_that_takes_its_time_to_be_recorded_is_not_taken_for_lost(
        self, time: Time
    ) -> None:
        store = LeaseOnlyStore(clock=time)
        here, there = make_engine(store, time), make_engine(store, time)
        operation = accept(here)
        self.leave(store)
        here.finish(operation, answer(operation))
        time.now += 2 * LEASE
        store.faults = frozenset({"write_chunk"})  # it is back, but takes no bodies yet
        for _ in range(10):
            with pytest.raises(StoreUnavailable):
                here.beat()
            assert there.recover() == 0
            time.now += LEASE / 3
        self.come_back(store)
        here.beat()
        assert body(there, poll(there, operation.id)) == b"done"

    def test_after_an_outage_those_who_are_gone_are_still_found(self, time: Time) -> None:
        store = LeaseOnlyStore(clock=time)
        gone, there = make_engine(store, time), make_engine(store, time)
        operation = accept(gone)
        self.leave(store)
        with pytest.raises(StoreUnavailable):
            there.recover()
        time.now += 2 * LEASE
        self.come_back(store)
        assert there.recover() == 0
        time.now += STEADY
        assert there.recover() == 1
        assert stored(there, operation).reason is Reason.INTERRUPTED

    def test_a_process_that_has_just_begun_ends_nobody_elses_operation(self, time: Time) -> None:
        store = LeaseOnlyStore(clock=time)
        operation = accept(make_engine(store, time))
        time.now += 2 * LEASE
        fresh = make_engine(store, time)
        assert poll(fresh, operation.id).status == 202
        assert fresh.recover() == 0
        time.now += STEADY
        assert poll(fresh, operation.id).status == 500


class TestAClockThatLeaps(EngineTests):
    """A server that took over at once, whose clock is another."""

    @pytest.fixture
    def clock(self) -> Time:
        """The store's clock; `time` is that of the processes."""
        return Time()

    @pytest.mark.parametrize("leap", [-3600.0, -20.0, 20.0, 3600.0])
    def test_a_leap_ends_no_operation_of_those_who_live(
        self, time: Time, clock: Time, leap: float
    ) -> None:
        store = LeaseOnlyStore(clock=clock)
        here, there = make_engine(store, time), make_engine(store, time)
        operation = accept(here)
        for second in range(120):
            time.now += 1
            clock.now += leap if second == 60 else 1
            here.beat()
            looked = there.look(operation.id)  # before anything else notices the leap
            assert looked is not None
            assert looked.state is State.RUNNING
            if second % 5 == 0:
                assert there.recover() == 0
        assert stored(here, operation).lease == pytest.approx(clock.now + LEASE, abs=LEASE / 2)

    @pytest.mark.parametrize("leap", [-3600.0, -20.0, 20.0, 3600.0])
    def test_after_a_leap_those_who_are_gone_are_still_found(
        self, time: Time, clock: Time, leap: float
    ) -> None:
        store = LeaseOnlyStore(clock=clock)
        gone, there = make_engine(store, time), make_engine(store, time)
        operation = None
        for turn in range(30):
            time.now += 5
            clock.now += 5
            there.recover()
            if turn == 10:
                clock.now += leap
                operation = accept(gone)
        assert operation is not None
        assert stored(there, operation).reason is Reason.INTERRUPTED
