"""The engine where two things happen at once, or one takes longer than it should."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from raincheck.config.policy import Candidate
from raincheck.contracts import Filter
from raincheck.engine.engine import Engine
from raincheck.engine.outbox import Ending
from raincheck.engine.process import LEASE
from raincheck.engine.recovery import UNHEARD
from raincheck.engine.start import Key, Start
from raincheck.errors import Overloaded, StoreUnavailable
from raincheck.http.messages import Request
from raincheck.monitor.endpoint import Repeat, StatusMonitor
from raincheck.operations.operation import Operation, Reason, State
from raincheck.operations.transitions import Ended
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
from tests.unit.test_engine_outages import AWAY
from tests.unit.test_recovery import Rerunner, start

ANY = Filter()


def look(engine: Engine, time: Time, seconds: float) -> None:
    """Let a process look every few seconds for what nobody runs."""
    for _ in range(int(seconds // 5) + 1):
        engine.recover()
        time.now += 5


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


class TestWhatTakesLong(EngineTests):
    """Requests that are slow to keep, and houses that are slow to clean."""

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


class TestLimits(EngineTests):
    """Limits hold however things meet."""

    def test_a_burst_exceeds_no_limit_of_a_process(self, store: FaultyStore, time: Time) -> None:
        engine, together = make_engine(store, time, limits={"operations": 3}), threading.Barrier(8)
        accepted, refused = list[Operation](), list[Overloaded]()

        def meet() -> None:
            together.wait(30)

        def begin() -> None:
            given = Start(method="GET", route="/x", capture=meet)
            try:
                accepted.append(engine.accept(Run(), given).operation)
            except Overloaded as error:
                refused.append(error)

        threads = [threading.Thread(target=begin) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(accepted), len(refused), len(engine.running)) == (3, 5, 3)

    def test_a_handler_has_its_time_while_the_store_is_away(
        self, store: FaultyStore, time: Time, run: Run
    ) -> None:
        engine = make_engine(store, time, timeout=10)
        accept(engine, run)
        store.faults = AWAY
        time.now += 11
        with pytest.raises(StoreUnavailable):
            engine.beat()
        assert run.given_up is Reason.TIMEOUT

    def test_what_is_being_cancelled_and_runs_too_long_has_failed(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine = make_engine(store, time, timeout=10)
        operation = accept(engine)
        engine.cancel(operation.id)
        engine.finish(operation, Ending(Ended(Reason.TIMEOUT)))
        ended = stored(engine, operation)
        assert (ended.state, ended.reason) == (State.FAILED, Reason.TIMEOUT)


class TestLostAnswers(EngineTests):
    """Records whose existence nobody heard of."""

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a driver's defect")])
    def test_whatever_is_raised_after_the_record_leaves_nothing_running(
        self,
        engine: Engine,
        store: FaultyStore,
        error: BaseException,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        create = store.create

        def create_and_fail(*given: Any) -> Operation:
            create(*given)
            raise error

        monkeypatch.setattr(store, "create", create_and_fail)
        with pytest.raises(type(error)):
            start(engine)
        engine.recover()
        ((operation,), _) = store.find(ANY)
        assert operation.reason is Reason.INTERRUPTED

    def test_a_record_that_comes_late_is_noticed_too(
        self, store: FaultyStore, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine, create, late = make_engine(store, time), store.create, list[Any]()

        def create_later(*given: Any) -> Operation:
            late.append(given)
            raise StoreUnavailable("no answer")

        monkeypatch.setattr(store, "create", create_later)
        with pytest.raises(StoreUnavailable):
            start(engine)
        time.now += UNHEARD / 2
        engine.recover()
        create(*late[0])
        engine.recover()
        ((operation,), _) = store.find(ANY)
        assert operation.reason is Reason.INTERRUPTED
        time.now += UNHEARD
        engine.recover()
        assert not engine._process.unanswered


class TestAttendance(EngineTests):
    """A client that waits for the response itself, under a key."""

    def test_who_is_answered_202_under_the_same_key_ends_it(
        self, store: FaultyStore, time: Time, run: Run
    ) -> None:
        engine = make_engine(store, time, timeout=10)
        key = Key("value", "fingerprint")
        operation = start(engine, "POST", run, key=key, is_attended=True)
        time.now += 60  # the first client has left, and nobody has noticed
        repeat = Repeat(Request("POST", "/reports"), operation.id, key=key, candidate=Candidate(0))
        assert StatusMonitor(engine).look(repeat).response.status == 202
        engine.beat()
        assert run.given_up is None
        time.now += 11
        engine.beat()
        assert run.given_up is Reason.TIMEOUT
