"""The engine when the store fails, leaps or hangs in the worst moment."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from raincheck.contracts import Filter
from raincheck.engine.engine import CHUNK_SIZE, Engine
from raincheck.engine.heartbeat import Heartbeat, _Beater
from raincheck.engine.outbox import Ending
from raincheck.engine.process import LEASE
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import Operation, Reason, Result, State
from raincheck.operations.transitions import Ended, Responded
from tests.unit.engines import (
    EngineTests,
    FaultyStore,
    LeaseOnlyStore,
    Time,
    accept,
    answer,
    body,
    make_engine,
    poll,
    stored,
)

CHUNK = b"x" * CHUNK_SIZE


def lose_one_answer(store: FaultyStore, name: str) -> None:
    """Have a method of a store fail once, although it does its work."""
    original = getattr(store, name)

    def work(*arguments: Any, **drops: bool) -> None:
        original(*arguments, **drops)
        setattr(store, name, original)
        raise StoreUnavailable("the answer is lost")

    setattr(store, name, work)


def wipe(store: FaultyStore) -> None:
    store._operations.clear()
    store._shelves.clear()


def two_chunks(operation: Operation) -> Ending:
    return Ending(Responded(Result(200, (), 2 * CHUNK_SIZE, CHUNK_SIZE, operation.fence)))


class TestAnEmptyStoreThatFails(EngineTests):
    """A server that took over, knows nothing, and is not steady yet."""

    @pytest.mark.parametrize("fault", ["swap", "read_chunks"])
    def test_a_loss_is_not_forgotten_when_the_store_fails_after_it_was_noticed(
        self, engine: Engine, store: FaultyStore, fault: str
    ) -> None:
        operation = accept(engine)
        engine.write(operation, 0, CHUNK)
        wipe(store)
        engine.write(operation, 1, CHUNK)
        store.faults = frozenset({fault})
        engine.finish(operation, two_chunks(operation))
        store.faults = frozenset()
        engine.beat()
        assert stored(engine, operation).reason is Reason.RESPONSE_LOST

    def test_a_record_made_again_whose_answer_is_lost_is_not_taken_for_whole(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        engine.write(operation, 0, CHUNK)
        wipe(store)
        engine.write(operation, 1, CHUNK)
        lose_one_answer(store, "create")
        engine.finish(operation, two_chunks(operation))
        engine.beat()
        assert stored(engine, operation).reason is Reason.RESPONSE_LOST

    @pytest.mark.parametrize("moment", [1, 2, 3])
    def test_a_beat_that_comes_between_the_steps_of_an_end_loses_nothing(
        self, lease_only: Engine, time: Time, moment: int
    ) -> None:
        engine, store = lease_only, lease_only.store
        assert isinstance(store, FaultyStore)
        operation = accept(engine)
        wipe(store)
        time.now += LEASE / 2
        running, calls, get = engine.running.all()[0], [], store.get

        def get_with_a_beat_before(operation_id: str) -> Operation | None:
            calls.append(operation_id)
            if len(calls) == moment:
                store.get = get  # type: ignore[method-assign]
                engine.leases._renew(running)
            return get(operation_id)

        store.get = get_with_a_beat_before  # type: ignore[method-assign]
        engine.finish(operation, answer(operation))
        engine.beat()
        assert body(engine, poll(engine, operation.id)) == b"done"

    def test_a_beat_that_records_again_just_before_an_end_is_noted_by_it(
        self, lease_only: Engine, time: Time
    ) -> None:
        engine, store = lease_only, lease_only.store
        assert isinstance(store, FaultyStore)
        operation = accept(engine)
        engine.write(operation, 0, CHUNK)
        wipe(store)
        time.now += LEASE / 2
        running, get = engine.running.all()[0], store.get

        def get_with_a_beat_before(operation_id: str) -> Operation | None:
            store.get = get  # type: ignore[method-assign]
            engine.leases._renew(running)
            return get(operation_id)

        store.get = get_with_a_beat_before  # type: ignore[method-assign]
        engine.finish(operation, two_chunks(operation))
        assert stored(engine, operation).reason is Reason.RESPONSE_LOST


class TestAnswersThatAreLost(EngineTests):
    """A change that happened although the store failed."""

    def test_an_end_that_was_recorded_is_not_taken_for_somebody_elses(
        self, engine: Engine, store: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        operation = accept(engine)
        lose_one_answer(store, "swap")
        engine.finish(operation, answer(operation))
        engine.beat()
        assert body(engine, poll(engine, operation.id)) == b"done"
        assert "ended by others" not in caplog.text

    def test_what_an_end_without_response_leaves_is_discarded_all_the_same(
        self, engine: Engine, store: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        operation = accept(engine)
        engine.write(operation, 0, CHUNK)
        lose_one_answer(store, "swap")
        engine.finish(operation, Ending(Ended(Reason.EXCEPTION)))
        engine.beat()
        assert stored(engine, operation).reason is Reason.EXCEPTION
        assert store._shelves[operation.id].chunks == {}
        assert "ended by others" not in caplog.text

    def test_an_end_after_somebody_elses_is_told(
        self, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        operation = accept(engine)
        engine.repository.change(operation.id, Ended(Reason.INTERRUPTED))
        engine.finish(operation, answer(operation))
        assert stored(engine, operation).reason is Reason.INTERRUPTED
        assert "ended by others" in caplog.text

    def test_an_operation_whose_acceptance_was_not_heard_of_ends_by_its_lease(
        self, lease_only: Engine, time: Time
    ) -> None:
        assert isinstance(lease_only.store, FaultyStore)
        lease_only.recover()
        lose_one_answer(lease_only.store, "create")
        with pytest.raises(StoreUnavailable):
            accept(lease_only)
        assert not lease_only.is_busy
        for _ in range(20):
            time.now += 5
            lease_only.recover()
        [left], _ = lease_only.store.find(Filter())
        assert left.reason is Reason.INTERRUPTED


class TestTheTurnOfAHeartbeat(EngineTests):
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


def turn(heartbeat: Heartbeat) -> None:
    """Have everything be due and done, in this thread."""
    work = heartbeat._work()
    assert work is not None
    beater = heartbeat._beater._of.setdefault(0, _Beater(heartbeat._work))
    beater._due = dict.fromkeys(beater._due, 0.0)
    beater._turn(work)


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


class TestAnEndOfMany(EngineTests):
    """Handlers that end one after another, in a shutdown, while each call of the store hangs."""

    def test_a_store_that_hangs_is_not_waited_for_by_each(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operations = [accept(engine) for _ in range(1000)]
        get = store.get

        def hang(operation_id: str) -> Operation | None:
            time.now += 10
            raise StoreUnavailable("no answer in ten seconds")

        store.get = hang  # type: ignore[method-assign]
        begin = time.now
        for operation in operations:
            engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        assert time.now - begin <= 20
        store.get = get  # type: ignore[method-assign]
        engine.beat()
        assert {stored(engine, each).reason for each in operations} == {Reason.SHUTDOWN}

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
