"""The core with stores that raise what no store should, and in forks."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from raincheck.engine import outbox as backlog
from raincheck.engine.engine import CHUNK_SIZE, Raincheck
from raincheck.engine.process import LEASE
from raincheck.engine.response_writer import Recording
from raincheck.errors import StoreError
from raincheck.operations.operation import Operation, Progress, Reason, State
from tests.unit.cores import (
    CoreTests,
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


class TestDefects(CoreTests):
    """A store that refuses for ever, or raises what no store should."""

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    @pytest.mark.parametrize("method", ["swap", "write_chunk"])
    def test_a_response_that_is_never_taken_is_lost_and_holds_up_no_other(
        self, core: Raincheck, store: FaultyStore, error: Exception, method: str
    ) -> None:
        refused, fine = accept(core), accept(core)
        store.faults = frozenset({"write_chunk"})
        for operation in (refused, fine):
            core.finish(operation, answer(operation))
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
        core.beat()
        assert stored(core, refused).reason is Reason.RESPONSE_LOST
        assert body(core, poll(core, fine.id)) == b"done"
        assert not core.is_busy

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_an_end_that_is_never_taken_holds_up_no_other(
        self, core: Raincheck, store: FaultyStore, error: Exception
    ) -> None:
        refused, fine = accept(core), accept(core)
        store.faults = frozenset({"write_chunk"})
        for operation in (refused, fine):
            core.finish(operation, answer(operation))
        store.faults = frozenset()
        swap = store.swap
        fail_for(store, "swap", refused, error)
        with pytest.raises(type(error)):
            core.beat()
        assert body(core, poll(core, fine.id)) == b"done"
        store.swap = swap  # type: ignore[method-assign]
        core.beat()
        assert stored(core, refused).is_terminal

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_a_chunk_that_meets_a_defect_ends_its_operation_and_not_its_handler(
        self, core: Raincheck, store: FaultyStore, error: Exception
    ) -> None:
        operation = accept(core)
        fail_for(store, "write_chunk", operation, error)
        recording = Recording(core, operation)
        recording.start(200, ())
        recording.feed(CHUNK)
        recording.flush()
        recording.complete()
        assert stored(core, operation).reason is Reason.RESPONSE_LOST

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_one_lease_that_cannot_be_renewed_costs_no_other(
        self, lease_only: Raincheck, time: Time, error: Exception
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
        self, core: Raincheck, store: FaultyStore, error: Exception
    ) -> None:
        refused, other = abandon(core), abandon(core)
        core.flights._of.clear()
        fail_for(store, "swap", refused, error)
        with pytest.raises(type(error)):
            core.recover()
        assert stored(core, other).reason is Reason.INTERRUPTED

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
    def test_a_poll_that_meets_a_defect_is_not_told_that_the_operation_has_failed(
        self, core: Raincheck, store: FaultyStore, error: Exception, method: str
    ) -> None:
        operation = accept(core)
        fail_for(store, "get", operation, error)
        response = poll(core, operation.id, method)
        assert response.status == 503
        assert response.header(b"retry-after") == b"5"

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_closing_ends_well_whatever_the_store_raises(
        self, core: Raincheck, store: FaultyStore, error: Exception
    ) -> None:
        operation = accept(core)
        closed: list[bool] = []
        store.close = lambda: closed.append(True)  # type: ignore[method-assign]
        fail_for(store, "swap", operation, error)
        core.finish(operation, answer(operation))
        core.close()
        assert closed == [True]

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_a_body_that_meets_a_defect_is_told_like_one_that_cannot_be_read(
        self, core: Raincheck, store: FaultyStore, error: Exception
    ) -> None:
        operation = accept(core)
        core.finish(operation, answer(operation))
        response = poll(core, operation.id)
        fail_for(store, "read_chunks", operation, error)
        with pytest.raises(StoreError):
            body(core, response)


class TestForks(CoreTests):
    """A fork that comes while responses wait, and while other threads hold every lock."""

    def test_a_fork_has_none_of_what_waits_and_can_work_on_its_own(
        self, core: Raincheck, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backlog, "MEMORY", 10)
        waiting, running = accept(core), accept(core)
        store.faults = frozenset({"write_chunk"})
        core.finish(waiting, answer(waiting, body=CHUNK))
        store.faults = frozenset()
        locks = [core._backlog._lock, core._backlog._handing_over]
        locks.append(core.flights.all()[-1].lock)
        assert core.flights.all()[-1].operation is running
        for lock in locks:
            lock.acquire()

        def work_as_a_fork() -> None:
            assert not core.is_busy
            own = accept(core)
            store.faults = frozenset({"write_chunk"})
            core.finish(own, answer(own, body=CHUNK))
            store.faults = frozenset()
            core.beat()
            assert body(core, poll(core, own.id)) == CHUNK
            assert not stored(core, waiting).is_terminal
            core.close()

        exit_code = run_in_fork(work_as_a_fork)
        for lock in locks:
            lock.release()
        assert exit_code == 0
        core.beat()
        assert body(core, poll(core, waiting.id)) == CHUNK
        assert stored(core, running).state is State.RUNNING


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
