"""Polls while the store fails, hangs, or raises what no store should."""

from __future__ import annotations

import pytest

from raincheck.engine.engine import Engine
from raincheck.errors import StoreError
from tests.unit.engines import (
    DEFECTS,
    EngineTests,
    FaultyStore,
    Hang,
    Hanging,
    Time,
    accept,
    answer,
    body,
    fail_for,
    make_engine,
    poll,
    wait_until,
)


class TestPolls(EngineTests):
    """They are never told that the operation has failed."""

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
    def test_a_poll_that_meets_a_failing_store_may_come_again(
        self, engine: Engine, store: FaultyStore, method: str
    ) -> None:
        operation = accept(engine)
        store.faults = frozenset({"get"})
        response = poll(engine, operation.id, method)
        assert response.status == 503
        assert response.header(b"retry-after") == b"5"

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
    def test_a_poll_that_meets_a_defect_is_not_told_that_the_operation_has_failed(
        self, engine: Engine, store: FaultyStore, error: Exception, method: str
    ) -> None:
        operation = accept(engine)
        fail_for(store, "get", operation, error)
        response = poll(engine, operation.id, method)
        assert response.status == 503
        assert response.header(b"retry-after") == b"5"

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_a_body_that_meets_a_defect_is_told_like_one_that_cannot_be_read(
        self, engine: Engine, store: FaultyStore, error: Exception
    ) -> None:
        operation = accept(engine)
        engine.finish(operation, answer(operation))
        response = poll(engine, operation.id)
        fail_for(store, "read_chunks", operation, error)
        with pytest.raises(StoreError):
            body(engine, response)


class TestAStoreThatHangs(Hanging):
    """A poll does not wait for it."""

    def test_a_poll_is_told_so_and_may_come_again(self, engine: Engine, hang: Hang) -> None:
        operation = accept(engine)
        hang.at("get")
        assert poll(engine, operation.id).status == 503
        hang.end()
        wait_until(lambda: poll(engine, operation.id).status == 202)

    def test_a_poll_is_answered_though_nobody_can_note_that_it_came(
        self, store: FaultyStore, time: Time, hang: Hang
    ) -> None:
        engine = make_engine(store, time, abandon_after=60.0)
        operation = accept(engine)
        time.now += 30.0
        hang.at("swap")
        assert poll(engine, operation.id).status == 202
