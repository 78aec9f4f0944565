"""What is looked at before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from raincheck.config.limits import Limits
from raincheck.contracts import Filter
from raincheck.engine.engine import Engine
from raincheck.errors import ConfigurationError, Overloaded
from raincheck.http.spool import Spooled
from raincheck.stores.memory import MemoryStore
from tests.unit.engines import EngineTests, Time, accept, answer, make_engine


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
