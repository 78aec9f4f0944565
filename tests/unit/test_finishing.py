"""Ends of operations are recorded once, whatever the store does meanwhile."""

from __future__ import annotations

import pytest

from raincheck.engine.engine import Engine
from raincheck.engine.outbox import Ending
from raincheck.engine.process import LEASE
from raincheck.engine.start import Accepted, Key, Start
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.operations.operation import Operation, Reason
from raincheck.operations.transitions import Ended
from tests.unit.engines import (
    CHUNK,
    DEFECTS,
    EngineTests,
    FaultyStore,
    LeaseOnlyStore,
    Run,
    Time,
    accept,
    answer,
    body,
    fail_for,
    kept_back,
    lose_one_answer,
    poll,
    stored,
)


class TestFinishing(EngineTests):
    """An end that meets a store which fails, hangs, or has recorded it already."""

    @pytest.mark.parametrize("fault", ["write_chunk", "swap", "now"])
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

    def test_an_end_that_cannot_be_recorded_in_one_step_is_recorded_in_two(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        store.faults = frozenset({"conclude"})
        engine.finish(operation, answer(operation, body=b"the last chunk"))
        engine.beat()
        assert body(engine, poll(engine, operation.id)) == b"the last chunk"

    def test_an_end_asks_for_no_record_that_is_known(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        store.faults = frozenset({"get"})
        engine.finish(operation, answer(operation, body=b"the last chunk"))
        store.faults = frozenset()
        assert body(engine, poll(engine, operation.id)) == b"the last chunk"

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

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_an_end_that_is_never_taken_holds_up_no_other(
        self, engine: Engine, store: FaultyStore, error: Exception
    ) -> None:
        refused, fine = kept_back(engine, store)
        swap = store.swap
        fail_for(store, "swap", refused, error)
        with pytest.raises(type(error)):
            engine.beat()
        assert body(engine, poll(engine, fine.id)) == b"done"
        store.swap = swap  # type: ignore[method-assign]
        engine.beat()
        assert stored(engine, refused).is_terminal

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


class TestCoalesced(EngineTests):
    """What identical requests are told after the end of what they had in common."""

    def start(self, engine: Engine, owner: str | None = None) -> Accepted:
        key = Key("shared", "print", is_shared=True)
        start = Start(method="GET", route="/", owner=owner, key=key, is_attended=True)
        return engine.accept(Run(), start)

    def test_who_was_sent_no_202_lets_go_of_the_key_even_if_the_end_is_recorded_later(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = self.start(engine).operation
        store.faults = frozenset({"swap"})
        engine.finish(operation, answer(operation))
        store.faults = frozenset()
        engine.beat()
        assert stored(engine, operation).is_terminal
        assert self.start(engine).is_new

    def test_who_was_has_it_for_some_seconds(self, engine: Engine) -> None:
        operation = self.start(engine).operation
        engine.leave_alone(operation)
        engine.finish(operation, answer(operation))
        assert self.start(engine).operation.id == operation.id

    def test_but_nobody_else_than_its_owner(self, engine: Engine) -> None:
        operation = self.start(engine, "anne").operation
        engine.leave_alone(operation)
        engine.finish(operation, answer(operation))
        assert self.start(engine).is_new
