"""Recovery where several processes, runs or many operations meet."""

from __future__ import annotations

from typing import Any

import pytest

from raincheck.contracts import Filter
from raincheck.engine.engine import Engine
from raincheck.engine.outbox import Ending
from raincheck.engine.process import LEASE
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import Operation, Reason, State
from raincheck.operations.transitions import Ended
from tests.unit.engines import (
    DEFECTS,
    EngineTests,
    FaultyStore,
    LeaseOnlyStore,
    Rerunner,
    Run,
    Time,
    _chunks,
    abandon,
    answer,
    body,
    fail_for,
    look,
    lost,
    make_engine,
    poll,
    second,
    start,
    stored,
)


class TestMany(EngineTests):
    """Many operations that wait."""

    def test_as_many_are_taken_up_at_once_as_there_is_room_for(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        for _ in range(250):
            lost(engine, start(engine))
        other, rerunner = make_engine(store, time, limits={"operations": 220}), Rerunner()
        other.recovery.rerunner = rerunner
        assert other.recover() == 250
        assert (len(rerunner.runs), other.recovery.has_more) == (220, False)

    def test_a_turn_that_is_too_short_is_followed_by_the_next(
        self, engine: Engine, store: FaultyStore, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left = [lost(engine, start(engine)) for _ in range(5)]
        other, rerunner, turns = make_engine(store, time), Rerunner(), list[float]()
        other.recovery.rerunner = rerunner
        monkeypatch.setattr(other.heartbeat, "recover_soon", lambda: turns.append(time.now))
        swap = store.swap

        def swap_slowly(*args: Any, **drops: Any) -> bool:
            time.now += 0.6
            return swap(*args, **drops)

        monkeypatch.setattr(store, "swap", swap_slowly)
        began = 0
        while began == len(turns):
            began += 1
            other.recover()
        assert {run[0].id for run in rerunner.runs} == {operation.id for operation in left}
        assert len(turns) > 1

    @pytest.mark.parametrize("places", [["/api"] * 6 + [""], ["/api"] * 6])
    def test_what_may_not_be_run_here_holds_up_nothing_behind_it_and_is_let_be(
        self, store: FaultyStore, time: Time, monkeypatch: pytest.MonkeyPatch, places: list[str]
    ) -> None:
        first, other = (make_engine(store, time, application="mounted") for _ in range(2))
        left = list[Operation]()
        for place in places:
            time.now += 1  # they wait in this order
            left.append(lost(first, start(first, root_path=place)))
        rerunner, find, looks = Rerunner(), store.find, list[Filter]()
        other.recovery.rerunner = rerunner
        other.application.come_in_at("")
        other.recovery.let_go()

        def find_slowly(which: Filter, **more: Any) -> Any:
            looks.append(which)
            time.now += 0.4
            return find(which, **more)

        monkeypatch.setattr(store, "find", find_slowly)
        monkeypatch.setattr("raincheck.engine.repository._BATCH", 1)
        has_more, turns = True, 0
        while has_more:
            turns += 1
            assert turns < 10
            other.recovery.has_more = False
            other.recovery.take_up(100)
            has_more = other.recovery.has_more
        assert turns > 1
        assert [run[0].id for run in rerunner.runs] == [o.id for o in left[6:]]
        looks.clear()
        other.recovery.take_up(100)
        assert bool(looks) is bool(rerunner.runs)  # in vain is not looked again so soon

    def test_what_waits_is_not_read_where_it_can_not_be_run(
        self, engine: Engine, store: FaultyStore, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """But once a minute, for what has waited too long."""
        engine.finish(start(engine), Ending(Ended(Reason.SHUTDOWN)))
        other, read, find = make_engine(store, time), list[Operation](), store.find

        def note(*args: Any, **more: Any) -> Any:
            page = find(*args, **more)
            read.extend(page[0])
            return page

        monkeypatch.setattr(store, "find", note)
        for _ in range(13):
            other.recover()
            time.now += 5
        assert len(read) == 2


class TestDefects(EngineTests):
    """A store that raises what no store should."""

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_one_operation_that_cannot_be_ended_keeps_no_other_from_it(
        self, engine: Engine, store: FaultyStore, error: Exception
    ) -> None:
        refused, other = abandon(engine), abandon(engine)
        engine.running._of.take()
        fail_for(store, "swap", refused, error)
        with pytest.raises(type(error)):
            engine.recover()
        assert stored(engine, other).reason is Reason.INTERRUPTED


class TestMoments(EngineTests):
    """What several processes do at once, or one that is killed in the middle."""

    def test_who_comes_late_to_let_go_does_not_end_what_was_released(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = lost(engine, start(engine))
        here, there = make_engine(store, time), make_engine(store, time)
        assert here.recovery.let_go_of(operation)
        assert not there.recovery.let_go_of(operation)
        assert stored(there, operation).state is State.ACCEPTED

    def test_who_has_renewed_meanwhile_is_not_let_go(self, time: Time) -> None:
        leases = LeaseOnlyStore(clock=time)
        engine, other = make_engine(leases, time), make_engine(leases, time)
        operation = start(engine)
        other.recover()
        time.now += LEASE / 2
        other.recover()
        time.now += LEASE / 2
        stale = stored(other, operation)
        engine.beat()
        assert not other.recovery.let_go_of(stale)
        assert stored(other, operation).state is State.RUNNING

    def test_who_is_killed_while_forgetting_leaves_no_body(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = start(engine)
        engine.finish(operation, answer(operation))
        store.faults = frozenset({"swap"})
        with pytest.raises(StoreUnavailable):
            engine.forget(operation.id)
        store.faults = frozenset()
        assert _chunks(store, operation) == []
        assert poll(engine, operation.id).status in (200, 410)

    def test_who_wakes_up_after_the_end_leaves_no_chunks(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = start(engine, "POST")
        lost(engine, operation)
        other, _ = second(store, time)
        other.recover()
        engine.write(operation, 0, b"late")
        engine.finish(operation, answer(operation))
        assert _chunks(store, operation) == []

    def test_a_beat_before_the_record_is_there_does_nothing(self, time: Time) -> None:
        leases = LeaseOnlyStore(clock=time)
        engine, run, create = make_engine(leases, time), Run(), leases.create
        engine.health.last_failure = time.now + 1  # the store was away

        def create_late(*args: Any) -> Operation:
            engine.beat()
            return create(*args)

        leases.create = create_late  # type: ignore[method-assign,assignment]
        operation = start(engine, run=run)
        assert leases.read_request(operation.id) is not None
        assert run.cancels == 0

    def test_nobody_ends_what_waits_for_another_application(
        self, store: FaultyStore, time: Time
    ) -> None:
        ours = make_engine(store, time, application="ours", retention=1000)
        theirs = make_engine(store, time, application="theirs", retention=1)
        operation = start(ours)
        ours.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        time.now += 500
        theirs.recover()
        assert stored(ours, operation).state is State.ACCEPTED


class TestStaleProcesses(EngineTests):
    def test_what_others_have_released_is_not_theirs_to_end(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = lost(engine, start(engine))
        make_engine(store, time).recover()
        assert stored(engine, operation).state is State.ACCEPTED
        engine.finish(operation, Ending(Ended(Reason.EXCEPTION)))
        assert stored(engine, operation).state is State.ACCEPTED
        assert store.read_request(operation.id) is not None

    @pytest.mark.parametrize("step", ["create", "swap"])
    def test_an_answer_that_is_lost_leaves_nothing_running_where_the_store_sees_who_lives(
        self, engine: Engine, store: FaultyStore, time: Time, step: str
    ) -> None:
        if step == "swap":
            operation = start(engine)
            engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        other, rerunner, original = make_engine(store, time), Rerunner(), getattr(store, step)
        other.recovery.rerunner = rerunner

        def work_and_fail(*args: Any, **drops: Any) -> None:
            setattr(store, step, original)
            original(*args, **drops)
            raise StoreUnavailable("the answer is lost")

        setattr(store, step, work_and_fail)
        with pytest.raises(StoreUnavailable):
            start(other) if step == "create" else other.recover()
        other.recover()
        (found,), _ = store.find(Filter())
        runs = [run[0].fence for run in rerunner.runs]
        assert (found.state, runs) == (
            (State.FAILED, []) if step == "create" else (State.RUNNING, [3])
        )

    def test_a_rerun_that_fails_to_begin_is_let_go(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = start(engine)
        engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        other = make_engine(store, time)

        class Broken(Rerunner):
            def rerun(self, *args: Any) -> Run:
                raise MemoryError

        other.recovery.rerunner = Broken()
        with pytest.raises(MemoryError):
            other.recover()
        other.recovery.rerunner = Rerunner(is_ready=False)
        other.recover()
        assert stored(other, operation).state is State.ACCEPTED


class TestTwoRuns(EngineTests):
    """A process that was frozen, and takes up again what it was given up for."""

    @pytest.fixture
    def leases(self, time: Time) -> LeaseOnlyStore:
        return LeaseOnlyStore(clock=time)

    @pytest.fixture
    def frozen(self, leases: LeaseOnlyStore, time: Time) -> Engine:
        engine = make_engine(leases, time)
        engine.recovery.rerunner = Rerunner()
        return engine

    @pytest.fixture
    def first(self, frozen: Engine, leases: LeaseOnlyStore, time: Time) -> Operation:
        """Return an operation of the frozen process that another one has released."""
        operation = start(frozen)
        look(make_engine(leases, time), time, LEASE + 5)
        assert stored(frozen, operation).state is State.ACCEPTED
        return operation

    @staticmethod
    def second(engine: Engine) -> Operation:
        """Return the operation as the process runs it again."""
        rerunner: Any = engine.recovery.rerunner
        ((again, *_),) = rerunner.runs
        assert isinstance(again, Operation)
        return again

    def test_the_late_end_of_the_first_leaves_the_second_in_flight(
        self, frozen: Engine, first: Operation, time: Time
    ) -> None:
        frozen.finish(first, answer(first))
        frozen.recover()
        again = self.second(frozen)
        frozen.land(first)
        time.now += LEASE / 2
        frozen.beat()
        assert stored(frozen, again).lease == time.now + LEASE
        frozen.finish(again, answer(again, body=b"second"))
        assert body(frozen, poll(frozen, again.id)) == b"second"
        assert len(frozen.running) == 0

    def test_an_end_of_the_first_that_waits_is_not_taken_for_the_seconds(
        self, frozen: Engine, first: Operation, leases: LeaseOnlyStore
    ) -> None:
        leases.faults = frozenset({"get"})  # it blinks as the first run ends
        frozen.finish(first, answer(first))
        leases.faults = frozenset()
        frozen.recover()
        frozen.beat()
        frozen.recover()
        again = self.second(frozen)
        frozen.finish(again, answer(again, body=b"second"))
        frozen.beat()
        assert body(frozen, poll(frozen, again.id)) == b"second"
