"""The engine with stores that raise what no store should, and in forks."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from raincheck.engine import outbox as outbox
from raincheck.engine.engine import CHUNK_SIZE, Engine
from raincheck.engine.process import LEASE
from raincheck.engine.response_writer import ResponseWriter
from raincheck.errors import StoreError
from raincheck.operations.operation import Operation, Progress, Reason, State
from tests.unit.engines import (
    EngineTests,
    FaultyStore,
    Run,
    Time,
    abandon,
    accept,
    answer,
    body,
    poll,
    stored,
)

DEFECTS = [StoreError("never"), OSError(5, "Input/output error"), TypeError("a defect")]
CHUNK = b"x" * CHUNK_SIZE


def fail_for(store: FaultyStore, name: str, operation: Operation, error: Exception) -> None:
    """Have a method of a store raise an error for one operation only."""
    original = getattr(store, name)

    def work(first: Any, *arguments: Any, **drops: bool) -> Any:
        if getattr(first, "id", first) == operation.id:
            raise error
        return original(first, *arguments, **drops)

    setattr(store, name, work)


class TestDefects(EngineTests):
    """A store that refuses for ever, or raises what no store should."""

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    @pytest.mark.parametrize("method", ["swap", "write_chunk"])
    def test_a_response_that_is_never_taken_is_lost_and_holds_up_no_other(
        self, engine: Engine, store: FaultyStore, error: Exception, method: str
    ) -> None:
        refused, fine = accept(engine), accept(engine)
        store.faults = frozenset({"write_chunk"})
        for operation in (refused, fine):
            engine.finish(operation, answer(operation))
        store.faults = frozenset()
        swap = store.swap

        def refuse(old: Operation, new: Operation, **drops: bool) -> bool:
            if old.id == refused.id and new.result is not None:
                raise error
            return swap(old, new, **drops)

        if method == "swap":
            store.swap = refuse  # type: ignore[method-assign]
        else:
            fail_for(store, "write_chunk", refused, error)
        engine.beat()
        assert stored(engine, refused).reason is Reason.RESPONSE_LOST
        assert body(engine, poll(engine, fine.id)) == b"done"
        assert not engine.is_busy

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_an_end_that_is_never_taken_holds_up_no_other(
        self, engine: Engine, store: FaultyStore, error: Exception
    ) -> None:
        refused, fine = accept(engine), accept(engine)
        store.faults = frozenset({"write_chunk"})
        for operation in (refused, fine):
            engine.finish(operation, answer(operation))
        store.faults = frozenset()
        swap = store.swap
        fail_for(store, "swap", refused, error)
        with pytest.raises(type(error)):
            engine.beat()
        assert body(engine, poll(engine, fine.id)) == b"done"
        store.swap = swap  # type: ignore[method-assign]
        engine.beat()
        assert stored(engine, refused).is_terminal

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_a_chunk_that_meets_a_defect_ends_its_operation_and_not_its_handler(
        self, engine: Engine, store: FaultyStore, error: Exception
    ) -> None:
        operation = accept(engine)
        fail_for(store, "write_chunk", operation, error)
        writer = ResponseWriter(engine, operation)
        writer.start(200, ())
        writer.feed(CHUNK)
        writer.flush()
        writer.complete()
        assert stored(engine, operation).reason is Reason.RESPONSE_LOST

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_one_lease_that_cannot_be_renewed_costs_no_other(
        self, lease_only: Engine, time: Time, error: Exception
    ) -> None:
        assert isinstance(lease_only.store, FaultyStore)
        run = Run()
        refused, fine = accept(lease_only), accept(lease_only, run)
        store = lease_only.store
        fine_cancelled = lease_only.cancel(fine.id)
        assert fine_cancelled is not None
        run.cancels = 0
        fail_for(store, "swap", refused, error)
        time.now += LEASE / 2
        lease_only.report(refused, Progress(1))
        with pytest.raises(type(error)):
            lease_only.beat()
        assert stored(lease_only, fine).lease == time.now + LEASE
        assert run.cancels

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
    def test_closing_ends_well_whatever_the_store_raises(
        self, engine: Engine, store: FaultyStore, error: Exception
    ) -> None:
        operation = accept(engine)
        closed: list[bool] = []
        store.close = lambda: closed.append(True)  # type: ignore[method-assign]
        fail_for(store, "swap", operation, error)
        engine.finish(operation, answer(operation))
        engine.close()
        assert closed == [True]

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


class TestForks(EngineTests):
    """A fork that comes while responses wait, and while other threads hold every lock."""

    def test_a_fork_has_none_of_what_waits_and_can_work_on_its_own(
        self, engine: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox, "MEMORY", 10)
        waiting, running = accept(engine), accept(engine)
        store.faults = frozenset({"write_chunk"})
        engine.finish(waiting, answer(waiting, body=CHUNK))
        store.faults = frozenset()
        locks = [engine._outbox._lock, engine._outbox._handing_over]
        locks.append(engine.running.all()[-1].lock)
        assert engine.running.all()[-1].operation is running
        for lock in locks:
            lock.acquire()

        def work_as_a_fork() -> None:
            assert not engine.is_busy
            own = accept(engine)
            store.faults = frozenset({"write_chunk"})
            engine.finish(own, answer(own, body=CHUNK))
            store.faults = frozenset()
            engine.beat()
            assert body(engine, poll(engine, own.id)) == CHUNK
            assert not stored(engine, waiting).is_terminal
            engine.close()

        exit_code = run_in_fork(work_as_a_fork)
        for lock in locks:
            lock.release()
        assert exit_code == 0
        engine.beat()
        assert body(engine, poll(engine, waiting.id)) == CHUNK
        assert stored(engine, running).state is State.RUNNING


def run_in_fork(work: Callable[[], None]) -> int:
    """Return the exit code of a child that does it; one that hangs is ended."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
