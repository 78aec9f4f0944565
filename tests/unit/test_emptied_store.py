"""A store that has lost its operations: who runs one records it again."""

from __future__ import annotations

import pytest

from raincheck.engine.engine import CHUNK_SIZE, Engine
from raincheck.engine.outbox import Ending
from raincheck.engine.process import LEASE
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.monitor.links import Resource
from raincheck.operations.operation import Operation, Reason, Result, State
from raincheck.operations.transitions import Ended, Responded
from tests.unit.engines import (
    CHUNK,
    CHUNKS,
    WHOLE,
    EngineTests,
    FaultyStore,
    Outages,
    Run,
    Time,
    accept,
    answer,
    body,
    lose_one_answer,
    make_engine,
    poll,
    respond,
    second,
    stored,
)


def wipe(store: FaultyStore) -> None:
    store._operations.clear()
    store._shelves.clear()


def two_chunks(operation: Operation) -> Ending:
    return Ending(Responded(Result(200, (), 2 * CHUNK_SIZE, CHUNK_SIZE, operation.fence)))


class TestAnEmptyStore(Outages):
    """A server that took over and knows nothing."""

    def test_an_operation_that_ends_is_recorded_again(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        wipe(store)
        engine.finish(operation, answer(operation, body=b"all of it"))
        assert body(engine, poll(engine, operation.id)) == b"all of it"

    def test_a_beat_records_an_operation_again(
        self, lease_only: Engine, run: Run, time: Time
    ) -> None:
        assert isinstance(lease_only.store, FaultyStore)
        operation = accept(lease_only, run)
        wipe(lease_only.store)
        time.now += LEASE / 2
        lease_only.beat()
        assert poll(lease_only, operation.id).status == 202
        assert stored(lease_only, operation).lease == time.now + LEASE
        assert run.cancels == 0
        respond(lease_only, operation)
        assert body(lease_only, poll(lease_only, operation.id)) == WHOLE

    def test_what_was_lost_in_an_outage_is_recorded_again_at_the_first_beat_after_it(
        self, lease_only: Engine, time: Time
    ) -> None:
        assert isinstance(lease_only.store, FaultyStore)
        operation = accept(lease_only)
        self.leave(lease_only.store)
        time.now += 1
        with pytest.raises(StoreUnavailable):
            lease_only.recover()
        wipe(lease_only.store)
        self.come_back(lease_only.store)
        lease_only.beat()
        assert poll(lease_only, operation.id).status == 202

    @pytest.mark.parametrize("beats", [0, 1])
    def test_a_response_of_which_a_part_is_gone_is_lost_and_says_so(
        self, lease_only: Engine, time: Time, beats: int
    ) -> None:
        assert isinstance(lease_only.store, FaultyStore)
        operation = accept(lease_only)
        lease_only.write(operation, 0, CHUNKS[0])
        wipe(lease_only.store)
        time.now += LEASE / 2
        for _ in range(beats):
            lease_only.beat()
        lease_only.write(operation, 1, CHUNKS[1])
        result = Result(200, (), 2 * CHUNK_SIZE, CHUNK_SIZE, operation.fence)
        lease_only.finish(operation, Ending(Responded(result)))
        assert stored(lease_only, operation).reason is Reason.RESPONSE_LOST
        with pytest.raises(StoreError):
            list(lease_only.store.read_chunks(operation.id, operation.fence, 1, 2))

    def test_what_others_ask_of_an_operation_that_was_recorded_again_is_not_overlooked(
        self, lease_only: Engine, time: Time
    ) -> None:
        assert isinstance(lease_only.store, FaultyStore)
        operation = accept(lease_only)
        time.now += LEASE / 2
        lease_only.beat()
        wipe(lease_only.store)
        assert poll(lease_only, operation.id).status == 202
        other, _ = second(lease_only.store, time)
        other.cancel(operation.id)
        lease_only.finish(operation, answer(operation))
        assert stored(lease_only, operation).state is State.CANCELLED

    def test_an_operation_that_ends_without_a_response_is_recorded_again(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        wipe(store)
        engine.finish(operation, Ending(Ended(Reason.EXCEPTION)))
        assert stored(engine, operation).state is State.FAILED


class TestWhatTheStoreForgot(Outages):
    """Polls of operations that run in this process."""

    @pytest.mark.parametrize("resource", [Resource.RESPONSE, Resource.STATUS])
    def test_what_runs_here_is_never_unknown(
        self, engine: Engine, store: FaultyStore, resource: Resource
    ) -> None:
        operation = accept(engine)
        wipe(store)
        expected = 202 if resource is Resource.RESPONSE else 200
        assert poll(engine, operation.id, resource=resource).status == expected
        assert stored(engine, operation).state is State.RUNNING, "and others know it again"

    def test_nor_if_it_can_not_be_recorded_again(self, engine: Engine, store: FaultyStore) -> None:
        operation = accept(engine)
        wipe(store)
        store.faults = frozenset({"create"})
        assert poll(engine, operation.id).status == 202

    def test_nor_if_it_has_ended_and_that_waits_for_the_store(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        self.leave(store)
        respond(engine, operation)
        self.come_back(store)
        wipe(store)
        assert poll(engine, operation.id).status == 202
        engine.beat()
        assert body(engine, poll(engine, operation.id)) == WHOLE

    def test_it_can_be_cancelled(self, engine: Engine, store: FaultyStore, run: Run) -> None:
        operation = accept(engine, run)
        wipe(store)
        assert poll(engine, operation.id, "DELETE").status == 202
        assert run.cancels == 1

    def test_to_all_but_its_owner_it_is_unknown(self, engine: Engine, store: FaultyStore) -> None:
        operation = accept(engine, owner="anne")
        wipe(store)
        unknown = poll(engine, "0" * 32)
        for stranger in ("bob", None):
            assert poll(engine, operation.id, owner=stranger) == unknown
        assert poll(engine, operation.id, owner="anne").status == 202

    def test_to_another_application_it_is_unknown(self, store: FaultyStore, time: Time) -> None:
        engine = make_engine(store, time, application="one")
        operation = accept(engine)
        wipe(store)
        engine.application.__dict__["name"] = "another"
        assert poll(engine, operation.id).status == 404

    def test_what_has_ended_before_is_unknown(self, engine: Engine, store: FaultyStore) -> None:
        operation = accept(engine)
        respond(engine, operation)
        wipe(store)
        assert poll(engine, operation.id).status == 404


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
