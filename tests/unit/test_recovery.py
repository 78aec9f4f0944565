"""Operations whose process is gone: released, ended, run again; and handlers that run too long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.fernet import Fernet

from raincheck.contracts import Filter
from raincheck.engine.engine import Engine
from raincheck.engine.outbox import Ending
from raincheck.engine.process import LEASE, LONG_LEASE
from raincheck.engine.recovery import KEY_AWAITED, STEADY
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import Operation, Reason, State
from raincheck.operations.transitions import Ended
from tests.unit.engines import (
    BODY,
    REQUEST,
    EngineTests,
    FaultyStore,
    LeaseOnlyStore,
    Rerunner,
    Run,
    Time,
    answer,
    body,
    lost,
    make_engine,
    poll,
    second,
    start,
    stored,
)

KEYS = [Fernet.generate_key().decode() for _ in range(2)]


class TestRecovery(EngineTests):
    def test_what_may_be_run_again_is_run_again_as_it_came(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = lost(engine, start(engine))
        other, rerunner = second(store, time)
        assert other.recover() == 1
        ((again, request, received),) = rerunner.runs
        assert (again.id, again.fence, again.state) == (operation.id, 2, State.RUNNING)
        assert replace(request, length=0, chunk_size=0) == REQUEST
        assert received == BODY
        other.finish(again, answer(again))
        assert body(other, poll(other, operation.id)) == b"done"

    def test_what_comes_late_from_the_first_run_is_refused(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = start(engine)
        lost(engine, operation)
        other, rerunner = second(store, time)
        other.recover()
        engine.write(operation, 0, b"late")
        engine.finish(operation, answer(operation, body=b"late"))
        again = rerunner.runs[0][0]
        assert stored(other, operation) == again
        other.finish(again, answer(again))
        assert body(other, poll(other, operation.id)) == b"done"

    @pytest.mark.parametrize(
        ("kind", "lease"), [(LeaseOnlyStore, LEASE), (FaultyStore, LONG_LEASE)]
    )
    def test_a_process_that_wakes_up_late_has_its_handler_stop(
        self, time: Time, kind: type[FaultyStore], lease: float
    ) -> None:
        store = kind(clock=time)
        frozen, run = make_engine(store, time), Run()
        start(frozen, run=run)
        other, rerunner = second(store, time)
        time.now += lease - STEADY / 2
        other.recover()
        assert rerunner.runs == []
        time.now += STEADY
        other.recover()  # it has just begun to look
        time.now += STEADY / 2
        other.recover()
        time.now += STEADY / 2
        other.recover()
        assert len(rerunner.runs) == 1
        frozen.beat()
        assert run.cancels == 1

    def test_one_that_can_not_be_run_holds_up_no_other(
        self, engine: Engine, store: FaultyStore, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        poison, fine = start(engine), start(engine)
        for operation in (poison, fine):
            lost(engine, operation)
        other, rerunner = second(store, time)
        rerun = rerunner.rerun

        def refuse_poison(operation: Operation, *given: Any) -> Run:
            if operation.id == poison.id:
                raise ValueError("no scope can be made of it")
            return rerun(operation, *given)

        monkeypatch.setattr(rerunner, "rerun", refuse_poison)
        with pytest.raises(ValueError, match="no scope"):
            other.recover()
        assert [operation.id for operation, *_ in rerunner.runs] == [fine.id]

    def test_a_captured_request_lies_encrypted_and_is_run_by_who_has_the_key(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine = make_engine(store, time, encryption_key=KEYS[0])
        operation = lost(engine, start(engine))
        kept = repr(store.read_request(operation.id)) + repr(store._shelves)
        assert "secret" not in kept
        assert "x" * 30 not in kept  # fewer may be there by chance
        other, rerunner = second(store, time, encryption_key=(KEYS[1], KEYS[0]))
        other.recover()
        ((_, request, content),) = rerunner.runs
        assert (request.headers, content) == (REQUEST.headers, BODY)

    def test_who_has_another_key_says_so_and_leaves_it_to_others_for_some_minutes(
        self, store: FaultyStore, time: Time, caplog: pytest.LogCaptureFixture
    ) -> None:
        engine = make_engine(store, time, encryption_key=KEYS[0], retention=2 * KEY_AWAITED)
        operation = lost(engine, start(engine))
        other, rerunner = second(store, time, encryption_key=KEYS[1])
        for _ in range(3):
            other.recover()
        assert (stored(other, operation).state, rerunner.runs) == (State.ACCEPTED, [])
        assert caplog.text.count("can't be run again here") == 1
        assert "encryption_key" in caplog.text
        time.now += KEY_AWAITED + 1
        other.recover()
        assert stored(other, operation).reason is Reason.INTERRUPTED

    @pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
    def test_what_may_not_be_run_again_is_interrupted(
        self, engine: Engine, store: FaultyStore, time: Time, method: str
    ) -> None:
        operation = lost(engine, start(engine, method))
        other, rerunner = second(store, time)
        other.recover()
        assert stored(other, operation).reason is Reason.INTERRUPTED
        assert rerunner.runs == []

    def test_of_two_processes_one_runs_it(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = start(engine)
        engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        (here, one), (there, two) = (second(store, time) for _ in range(2))
        read = here.recovery.requests.read

        def read_while_the_other_claims(*given: Any) -> Any:
            found = read(*given)
            there.recover()
            return found

        here.recovery.requests.read = read_while_the_other_claims  # type: ignore[method-assign,assignment]
        here.recover()
        assert (len(one.runs), len(two.runs)) == (0, 1)
        assert operation.id not in here.running

    def test_an_end_by_shutdown_releases_what_may_be_run_again(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = start(engine)
        engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        waiting = stored(engine, operation)
        assert (waiting.state, waiting.worker, waiting.lease) == (State.ACCEPTED, None, None)
        other, rerunner = second(store, time)
        other.recover()
        assert rerunner.runs[0][2] == BODY

    def test_it_is_begun_as_often_as_it_may_be(self, store: FaultyStore, time: Time) -> None:
        engine, rerunner = second(store, time, max_attempts=2)
        operation = lost(engine, start(engine))
        engine.recover()
        lost(engine, operation)
        engine.recover()
        assert (len(rerunner.runs), stored(engine, operation).reason) == (1, Reason.INTERRUPTED)

    def test_nobody_runs_it_who_cannot(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = lost(engine, start(engine))
        other, rerunner = second(store, time)
        rerunner.is_ready = False
        other.recover()
        assert stored(other, operation).state is State.ACCEPTED
        rerunner.is_ready, rerunner.error = True, RuntimeError("the loop has ended")
        for _ in range(other.settings.max_attempts + 1):
            other.recover()
            assert stored(other, operation).state is State.ACCEPTED
        assert not other.is_busy
        time.now += operation.retention + 1
        other.recover()
        assert stored(other, operation).is_terminal

    def test_a_process_that_is_full_leaves_it_to_others(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = lost(engine, start(engine))
        other, rerunner = second(store, time, limits={"operations": 1})
        start(other)
        other.recover()
        assert (rerunner.runs, stored(other, operation).state) == ([], State.ACCEPTED)

    def test_what_waits_longer_than_it_would_be_kept_has_expired(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = start(engine)
        engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        time.now += engine.settings.retention + 1
        engine.recover()
        assert stored(engine, operation).reason is Reason.EXPIRED_BEFORE_START

    @pytest.mark.parametrize("left", ["request", "body"])
    def test_a_request_that_is_not_all_there_is_not_run(
        self, engine: Engine, store: FaultyStore, time: Time, left: str
    ) -> None:
        operation = lost(engine, start(engine))
        if left == "body":
            store.discard(operation.id)
        else:
            store.write_chunk(operation.id, 0, 0, b"short")
        other, rerunner = second(store, time)
        other.recover()
        assert (rerunner.runs, stored(other, operation).reason) == ([], Reason.INTERRUPTED)

    @pytest.mark.parametrize("method", ["read_request", "read_chunks", "swap"])
    def test_a_store_that_fails_meanwhile_loses_nothing(
        self, engine: Engine, store: FaultyStore, time: Time, method: str
    ) -> None:
        operation = start(engine)
        engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        other, rerunner = second(store, time)
        store.faults = frozenset({method})
        with pytest.raises(StoreUnavailable):
            other.recover()
        store.faults = frozenset()
        assert not other.is_busy
        other.recover()
        assert [run[0].id for run in rerunner.runs] == [operation.id]

    def test_an_answer_that_is_lost_when_it_is_claimed_costs_one_attempt(self, time: Time) -> None:
        leases = LeaseOnlyStore(clock=time)
        engine = make_engine(leases, time)
        operation = start(engine)
        engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        other, rerunner = second(leases, time)
        swap = leases.swap

        def swap_and_fail(*args: Any, **drops: Any) -> bool:
            leases.swap = swap  # type: ignore[method-assign]
            swap(*args, **drops)
            raise StoreUnavailable("the answer is lost")

        leases.swap = swap_and_fail  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            other.recover()
        other.recover()
        assert [run[0].fence for run in rerunner.runs] == [3]

    def test_an_operation_that_nobody_heard_of_is_not_run_again(self, time: Time) -> None:
        leases = LeaseOnlyStore(clock=time)
        engine, rerunner = second(leases, time)
        create = leases.create

        def create_and_fail(*args: Any) -> Operation:
            leases.create = create  # type: ignore[method-assign]
            create(*args)
            raise StoreUnavailable("the answer is lost")

        leases.create = create_and_fail  # type: ignore[method-assign,assignment]
        with pytest.raises(StoreUnavailable):
            start(engine)
        engine.recover()
        assert rerunner.runs == []
        (operation,), _ = leases.find(Filter())
        assert operation.reason is Reason.INTERRUPTED

    def test_progress_of_the_first_run_is_not_that_of_the_second(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        from raincheck.operations.operation import Progress

        lost(engine, start(engine, progress=Progress(9, 10)))
        other, rerunner = second(store, time)
        other.recover()
        assert rerunner.runs[0][0].progress is None

    def test_a_poll_that_sees_a_dead_process_releases_at_once(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = lost(engine, start(engine))
        other, _ = second(store, time)
        assert poll(other, operation.id).status == 202
        assert stored(other, operation).state is State.ACCEPTED


class TestApplications(EngineTests):
    """Several applications may share a store."""

    def test_nobody_runs_the_requests_of_another_application(
        self, store: FaultyStore, time: Time
    ) -> None:
        ours, theirs = (make_engine(store, time, application=name) for name in ("ours", "theirs"))
        rerunners = [Rerunner(), Rerunner()]
        ours.recovery.rerunner, theirs.recovery.rerunner = rerunners
        operation = start(ours)
        ours.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        theirs.recover()
        assert rerunners[1].runs == []
        ours.recover()
        assert len(rerunners[0].runs) == 1
