"""Requests become operations, or none, whatever the store does meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from raincheck.contracts import Filter
from raincheck.engine.engine import Engine
from raincheck.engine.recovery import UNHEARD
from raincheck.engine.start import Key, Start
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.operations.operation import Operation, Reason
from tests.unit.engines import (
    EngineTests,
    FaultyStore,
    Hang,
    Hanging,
    Run,
    Time,
    accept,
    lose_one_answer,
    make_engine,
    start,
    stored,
    wait_until,
)

ANY = Filter()


class TestAccepting(EngineTests):
    """What is recorded, and what is said where nobody heard of it."""

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


class TestAStoreThatHangs(Hanging):
    """What is recorded, or not, when nobody waits for it any more."""

    def test_what_is_recorded_when_its_request_has_gone_on_is_ended_and_lets_its_key_go(
        self, engine: Engine, store: FaultyStore, hang: Hang
    ) -> None:
        key = Key("k", "fingerprint")
        hang.at("create")
        with pytest.raises(StoreUnavailable):
            engine.accept(Run(), Start(method="POST", route="/", key=key))
        assert not engine.health.takes_operations
        hang.end()
        wait_until(lambda: hang.created)
        [lost] = hang.created
        wait_until(lambda: (found := engine.store.get(lost.id)) and found.is_terminal)
        assert stored(engine, lost).reason is Reason.INTERRUPTED
        assert not len(engine.running)
        again = engine.accept(Run(), Start(method="POST", route="/", key=key))
        assert again.is_new

    def test_who_comes_again_is_not_given_what_is_about_to_be_taken_back(
        self, engine: Engine, store: FaultyStore, hang: Hang, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start, create = Start(method="POST", route="/", key=Key("k", "fingerprint")), store.create
        hang.at("create", is_done=True)
        with pytest.raises(StoreUnavailable):
            engine.accept(Run(), start)
        [late] = hang.created
        monkeypatch.setattr(store, "create", create)  # it answers others again
        engine.health.writes._refuse_for(0)
        engine.recover()  # what is still under way is not forgotten
        with pytest.raises(StoreUnavailable, match="taken back"):
            engine.accept(Run(), start)
        hang.end()
        wait_until(lambda: stored(engine, late).is_terminal)
        assert engine.accept(Run(), start).is_new

    def test_what_nobody_waits_for_any_more_is_not_recorded(
        self, engine: Engine, store: FaultyStore, hang: Hang
    ) -> None:
        hang.at("now")
        with pytest.raises(StoreUnavailable):
            engine.accept(Run(), Start(method="POST", route="/"))
        [unanswered] = engine._process.unanswered
        hang.end()
        wait_until(lambda: engine.health.writes._may_begin())
        assert engine.store.get(unanswered) is None
        assert not len(engine.running)
