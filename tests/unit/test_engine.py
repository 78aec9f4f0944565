"""The engine: the life of an operation from its acceptance to the day it is forgotten."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import pytest

from raincheck.engine.engine import CHUNK_SIZE, Engine
from raincheck.engine.outbox import Ending
from raincheck.engine.process import LEASE
from raincheck.engine.response_writer import ResponseWriter
from raincheck.errors import BodyMissing
from raincheck.http.messages import StoredBody
from raincheck.monitor.endpoint import StatusMonitor
from raincheck.monitor.links import Resource
from raincheck.operations.operation import Progress, Reason, State
from raincheck.operations.transitions import Ended
from tests.unit.engines import (
    RETENTION,
    EngineTests,
    FaultyStore,
    LeaseOnlyStore,
    Time,
    abandon,
    accept,
    answer,
    body,
    make_engine,
    poll,
    stored,
)


class TestCore(EngineTests):
    """Every step that the engine orders, on a store that works."""

    # --- accept and finish ---------------------------------------------------------------------

    def test_an_accepted_operation_is_in_the_store_and_running(self, engine: Engine) -> None:
        operation = accept(engine, owner="ann")
        assert stored(engine, operation) == operation
        assert (operation.state, operation.fence, operation.owner) == (State.RUNNING, 1, "ann")
        assert operation.progress == Progress(0, 10)
        assert engine.is_busy
        assert poll(engine, operation.id, owner="ann").status == 202

    def test_a_finished_operation_shows_its_response(self, engine: Engine, time: Time) -> None:
        operation = accept(engine)
        time.now += 5
        engine.finish(operation, answer(operation, 201, b"made"))
        ended = stored(engine, operation)
        assert (ended.state, ended.expires) == (State.SUCCEEDED, time.now + RETENTION)
        response = poll(engine, operation.id)
        assert (response.status, body(engine, response)) == (201, b"made")
        assert response.header(b"operation-status") == b"succeeded"
        assert not engine.is_busy

    def test_a_body_of_many_chunks_is_read_as_it_was_written(self, engine: Engine) -> None:
        operation = accept(engine)
        whole = bytes(range(256)) * (CHUNK_SIZE // 100)
        writer = ResponseWriter(engine, operation)
        writer.start(200, ())
        for start in range(0, len(whole), 100_000):
            if writer.feed(whole[start : start + 100_000]):
                writer.flush()
        writer.complete()
        response = poll(engine, operation.id)
        assert body(engine, response) == whole
        assert isinstance(response.body, StoredBody)
        part = replace(response.body, start=CHUNK_SIZE - 3, stop=CHUNK_SIZE + 3)
        assert b"".join(StatusMonitor(engine).read(part)) == whole[CHUNK_SIZE - 3 : CHUNK_SIZE + 3]

    def test_a_failed_operation_says_why(self, engine: Engine) -> None:
        operation = accept(engine)
        engine.finish(operation, Ending(Ended(Reason.EXCEPTION)))
        assert stored(engine, operation).reason is Reason.EXCEPTION
        response = poll(engine, operation.id)
        assert response.status == 500
        assert json.loads(body(engine, response))["code"] == "exception"

    def test_terminal_is_terminal(self, engine: Engine) -> None:
        operation = accept(engine)
        engine.finish(operation, answer(operation))
        ended = stored(engine, operation)
        engine.finish(operation, Ending(Ended(Reason.EXCEPTION)))
        engine.finish(operation, answer(operation, 500, b""))
        engine.cancel(operation.id)
        engine.report(operation, Progress(9))
        engine.beat()
        engine.recover()
        assert stored(engine, operation) == ended

    def test_a_finish_with_an_old_fence_is_refused(self, engine: Engine) -> None:
        operation = accept(engine)
        claimed = replace(operation, fence=2, version=operation.version + 1, worker="other")
        assert engine.store.swap(operation, claimed)
        engine.finish(operation, answer(operation))
        assert stored(engine, operation) == claimed
        assert not engine.is_busy

    # --- recover -------------------------------------------------------------------------------

    def test_what_a_dead_process_ran_is_interrupted(self, store: FaultyStore, time: Time) -> None:
        operation = abandon(make_engine(store, time))
        engine = make_engine(store, time)
        assert engine.recover() == 1
        ended = stored(engine, operation)
        assert (ended.state, ended.reason) == (State.FAILED, Reason.INTERRUPTED)
        assert ended.expires == time.now + RETENTION
        with pytest.raises(BodyMissing):
            list(store.read_chunks(operation.id, operation.fence, 0, 1))
        assert engine.recover() == 0

    def test_what_was_to_be_cancelled_when_its_process_died_is_cancelled(
        self, store: FaultyStore, time: Time
    ) -> None:
        operation = abandon(make_engine(store, time), state=State.CANCELLING)
        engine = make_engine(store, time)
        assert engine.recover() == 1
        assert stored(engine, operation).state is State.CANCELLED

    def test_a_poll_sees_at_once_that_the_process_died(
        self, store: FaultyStore, time: Time
    ) -> None:
        operation = abandon(make_engine(store, time))
        engine = make_engine(store, time)
        response = poll(engine, operation.id)
        assert response.status == 500
        assert json.loads(body(engine, response))["code"] == "interrupted"

    def test_what_runs_is_not_interrupted(self, store: FaultyStore, time: Time) -> None:
        operation = accept(make_engine(store, time))
        time.now += 100 * LEASE
        other = make_engine(store, time)
        assert other.recover() == 0
        assert poll(other, operation.id).status == 202

    def test_a_lease_protects_until_it_ends(self, time: Time) -> None:
        store = LeaseOnlyStore(clock=time)
        operation = accept(make_engine(store, time))
        other = make_engine(store, time)
        for _ in range(int(LEASE)):
            assert other.recover() == 0
            time.now += 1
        assert other.recover() == 1
        assert stored(other, operation).reason is Reason.INTERRUPTED

    def test_more_than_a_page_is_recovered(self, store: FaultyStore, time: Time) -> None:
        gone = make_engine(store, time)
        for _ in range(250):
            abandon(gone)
        assert make_engine(store, time).recover() == 250

    # --- cancel and forget ---------------------------------------------------------------------

    def test_a_forgotten_response_is_gone(self, engine: Engine, store: FaultyStore) -> None:
        operation = accept(engine)
        engine.finish(operation, answer(operation))
        assert poll(engine, operation.id, "DELETE").status == 204
        for method in ("GET", "DELETE"):
            assert poll(engine, operation.id, method).status == 410
        with pytest.raises(BodyMissing):
            list(store.read_chunks(operation.id, operation.fence, 0, 1))

    def test_what_still_runs_cannot_be_forgotten(self, engine: Engine, store: FaultyStore) -> None:
        operation = accept(engine)
        engine.write(operation, 0, b"half")
        assert engine.forget(operation.id) is None
        assert stored(engine, operation) == operation
        assert list(store.read_chunks(operation.id, operation.fence, 0, 1)) == [b"half"]

    @pytest.mark.parametrize("step", ["cancel", "forget"])
    def test_an_unknown_operation_can_be_neither_cancelled_nor_forgotten(
        self, engine: Engine, step: str
    ) -> None:
        assert getattr(engine, step)("unknown") is None

    # --- owners --------------------------------------------------------------------------------

    @pytest.mark.parametrize("stage", ["running", "ended", "expired", "forgotten"])
    def test_somebody_elses_operation_is_like_none(
        self, engine: Engine, time: Time, stage: str
    ) -> None:
        operation = accept(engine, owner="ann")
        if stage != "running":
            engine.finish(operation, answer(operation))
        if stage == "expired":
            time.now += RETENTION
        if stage == "forgotten":
            engine.forget(operation.id)
        before = stored(engine, operation)
        owners = ["bob", "", None, "ANN", "ann "]
        for asked in product(["GET", "HEAD", "DELETE", "PUT"], Resource, owners):
            unknown = poll(engine, "0" * 32, *asked)
            assert poll(engine, operation.id, *asked) == unknown, asked
            assert stored(engine, operation) == before

    def test_an_operation_without_owner_is_anybodys_who_knows_its_id(self, engine: Engine) -> None:
        operation = accept(engine)
        assert poll(engine, operation.id, owner="bob").status == 202
