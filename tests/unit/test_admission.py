"""What is looked at before anything runs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from raincheck.config.limits import Limits
from raincheck.config.policy import Candidate
from raincheck.contracts import Filter
from raincheck.engine.engine import Engine
from raincheck.engine.refusals import Admitted, admit
from raincheck.engine.start import Start
from raincheck.errors import (
    ConfigurationError,
    Overloaded,
    StoreUnavailable,
)
from raincheck.http.spool import Spooled
from raincheck.operations.operation import Operation
from raincheck.stores.memory import MemoryStore
from tests.unit.engines import (
    EngineTests,
    FaultyStore,
    Outages,
    Run,
    Time,
    accept,
    answer,
    make_engine,
)


def limited(store: MemoryStore, time: Time, **limits: Any) -> Engine:
    engine = make_engine(store, time, limits=limits)
    engine.admission._clock = time
    return engine


class TestAdmission(EngineTests):
    def test_as_many_as_a_process_may_have_are_accepted(self, store: Any, time: Time) -> None:
        engine = limited(store, time, operations=2)
        accept(engine), accept(engine)
        with pytest.raises(Overloaded, match="`operations` of 2"):
            accept(engine)
        assert len(store.find(Filter())[0]) == 2

    def test_one_owner_takes_no_room_from_another(self, store: Any, time: Time) -> None:
        engine = limited(store, time, operations_per_owner=2)
        accept(engine, owner="ada"), accept(engine, owner="ada")
        with pytest.raises(Overloaded) as caught:
            accept(engine, owner="ada")
        assert caught.value.limit == "operations_per_owner"
        accept(engine, owner="bob"), accept(engine), accept(engine), accept(engine)

    @pytest.mark.parametrize(
        ("limit", "owner"), [("operations_per_owner", "ada"), ("operations_in_store", None)]
    )
    def test_what_other_processes_run_is_counted_too(
        self, store: Any, time: Time, limit: str, owner: str | None
    ) -> None:
        here, there = (limited(store, time, **{limit: 2}) for _ in range(2))
        accept(there, owner=owner), accept(there, owner=owner)
        with pytest.raises(Overloaded, match=f"`{limit}` of 2"):
            accept(here, owner=owner)

    def test_what_has_ended_makes_room_within_a_second(self, store: Any, time: Time) -> None:
        engine = limited(store, time, operations_in_store=1)
        operation = accept(engine)
        engine.finish(operation, answer(operation))
        time.now += 1
        accept(engine)

    def test_the_store_is_asked_at_most_once_a_second(self, store: Any, time: Time) -> None:
        engine, counted, original = limited(store, time, operations_in_store=100), [], store.count

        def count(*args: Any) -> Any:
            counted.append(1)
            return original(*args)

        store.count = count
        for _ in range(10):
            accept(engine)
        assert len(counted) == 1

    def test_what_has_ended_takes_no_room_from_the_next(self, store: Any, time: Time) -> None:
        engine = limited(store, time, operations_in_store=3)
        for _ in range(10):
            operation = accept(engine)
            engine.finish(operation, answer(operation))
            time.now += 0.1

    def test_without_limits_the_store_is_not_asked(self, engine: Engine, store: Any) -> None:
        store.faults = frozenset({"find", "count"})
        accept(engine, owner="ada")

    def test_at_a_full_limit_no_record_is_read(self, store: Any, time: Time) -> None:
        engine = limited(store, time, operations_in_store=2, operations_per_owner=2)
        accept(engine, owner="ada"), accept(engine, owner="ada")
        store.faults = frozenset({"find", "get"})
        for owner in ("ada", "bob"):
            time.now += 2
            with pytest.raises(Overloaded):
                accept(engine, owner=owner)


def test_what_does_not_fit_is_not_counted() -> None:
    spooled = Spooled(10)
    assert spooled.add(8)
    assert not spooled.add(3)
    assert spooled.add(2)
    spooled.add(-10)
    assert spooled.add(10)


@pytest.mark.parametrize("value", [-1, 1.5, True, "1"])
@pytest.mark.parametrize("name", ["operations", "operations_per_owner", "spooled", "pollers"])
def test_a_limit_is_a_whole_number(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"limits: {name}"):
        Limits(**{name: value})


def may_begin(engine: Engine, candidate: Candidate) -> bool:
    """Tell whether a handler may be called."""
    return isinstance(admit(candidate, engine, lambda: None), Admitted)


class TestTheLimitOfAProcess(EngineTests):
    """It holds however things meet."""

    def test_no_more_is_accepted_than_may_be_in_flight(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine = make_engine(store, time, limits={"operations": 2})
        first = accept(engine)
        accept(engine)
        assert engine.is_full
        with pytest.raises(Overloaded):
            accept(engine)
        assert len(store.find(Filter())[0]) == 2
        engine.finish(first, answer(first))
        accept(engine)

    def test_it_is_full_at_the_limit_and_not_before(self, store: FaultyStore, time: Time) -> None:
        engine = make_engine(store, time, limits={"operations": 2})
        seen = []
        for _ in range(2):
            seen.append(engine.is_full)
            accept(engine)
        assert [*seen, engine.is_full] == [False, False, True]

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


class TestRequestsThatStaySynchronous(Outages):
    """What may begin while nothing can be accepted."""

    AT_ONCE = Candidate(0)

    def test_a_few_go_on_and_the_next_is_refused_before_it_begins(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine = make_engine(store, time, limits={"synchronous": 2})
        self.leave(store)
        with pytest.raises(StoreUnavailable):
            accept(engine)
        with engine.health.stay():
            assert may_begin(engine, self.AT_ONCE)
            with engine.health.stay():
                assert not may_begin(engine, self.AT_ONCE)
                assert may_begin(engine, Candidate(2.0))
            assert may_begin(engine, self.AT_ONCE)

    def test_a_store_that_takes_operations_again_is_noticed(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine = make_engine(store, time, limits={"synchronous": 0})
        assert may_begin(engine, self.AT_ONCE)
        self.leave(store)
        with pytest.raises(StoreUnavailable):
            accept(engine)
        self.come_back(store)
        engine.recover()  # that it can be read says nothing
        assert not may_begin(engine, self.AT_ONCE)
        accept(engine)
        assert may_begin(engine, self.AT_ONCE)

    def test_now_and_then_one_request_finds_out(self, store: FaultyStore, time: Time) -> None:
        engine = make_engine(store, time, limits={"synchronous": 0})
        self.leave(store)
        for _ in range(3):
            assert may_begin(engine, self.AT_ONCE)
            with pytest.raises(StoreUnavailable):
                accept(engine)
            assert not may_begin(engine, self.AT_ONCE)
            time.now += 6
