"""Operations whose process is gone: released, ended, run again; and handlers that run too long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import IO, Any

import pytest
from cryptography.fernet import Fernet

from raincheck.contracts import Filter
from raincheck.engine.engine import Engine
from raincheck.engine.outbox import Ending
from raincheck.engine.process import LEASE, LONG_LEASE
from raincheck.engine.recovery import KEY_AWAITED, STEADY
from raincheck.engine.start import Captured, Start
from raincheck.errors import StoreUnavailable
from raincheck.handler import Marking
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, Reason, State
from raincheck.operations.transitions import Ended
from tests.unit.engines import (
    EngineTests,
    FaultyStore,
    LeaseOnlyStore,
    Run,
    Time,
    answer,
    body,
    keep_beating,
    make_engine,
    poll,
    stored,
)

REQUEST = Request("GET", "/reports", headers=((b"authorization", b"secret"),))
BODY = b"x" * 700_000
KEYS = [Fernet.generate_key().decode() for _ in range(2)]


@dataclass
class Rerunner:
    """Remembers what it was given to run."""

    is_ready: bool = True
    runs: list[tuple[Operation, Request, bytes]] = field(default_factory=list)
    error: RuntimeError | None = None

    def rerun(self, operation: Operation, request: Request, body: IO[bytes]) -> Run:
        if self.error is not None:
            raise self.error
        with body:
            self.runs.append((operation, request, body.read()))
        return Run()


def start(engine: Engine, method: str = "GET", run: Run | None = None, **more: Any) -> Operation:
    capture = Captured(replace(REQUEST, method=method), [BODY[:300_000], BODY[300_000:]])
    given = Start(method=method, route="/reports", capture=lambda: capture, **more)
    return engine.accept(run or Run(), given).operation


def lost(engine: Engine, operation: Operation) -> Operation:
    """Leave it in the store as that of a process which is gone."""
    engine.running.drop(engine.running.get(operation.id))
    now = stored(engine, operation)
    left = replace(now, version=now.version + 1, worker="gone")
    assert engine.store.swap(now, left)
    return left


class TestRecovery(EngineTests):
    def second(self, store: FaultyStore, time: Time, **options: Any) -> tuple[Engine, Rerunner]:
        engine, rerunner = make_engine(store, time, **options), Rerunner()
        engine.recovery.rerunner = rerunner
        return engine, rerunner

    def test_what_may_be_run_again_is_run_again_as_it_came(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = lost(engine, start(engine))
        other, rerunner = self.second(store, time)
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
        other, rerunner = self.second(store, time)
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
        other, rerunner = self.second(store, time)
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
        other, rerunner = self.second(store, time)
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
        other, rerunner = self.second(store, time, encryption_key=(KEYS[1], KEYS[0]))
        other.recover()
        ((_, request, content),) = rerunner.runs
        assert (request.headers, content) == (REQUEST.headers, BODY)

    def test_who_has_another_key_says_so_and_leaves_it_to_others_for_some_minutes(
        self, store: FaultyStore, time: Time, caplog: pytest.LogCaptureFixture
    ) -> None:
        engine = make_engine(store, time, encryption_key=KEYS[0], retention=2 * KEY_AWAITED)
        operation = lost(engine, start(engine))
        other, rerunner = self.second(store, time, encryption_key=KEYS[1])
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
        other, rerunner = self.second(store, time)
        other.recover()
        assert stored(other, operation).reason is Reason.INTERRUPTED
        assert rerunner.runs == []

    def test_of_two_processes_one_runs_it(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = start(engine)
        engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        (here, one), (there, two) = (self.second(store, time) for _ in range(2))
        read = here.recovery.requests.read

        def read_while_the_other_claims(it: Operation) -> Any:
            found = read(it)
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
        other, rerunner = self.second(store, time)
        other.recover()
        assert rerunner.runs[0][2] == BODY

    def test_it_is_begun_as_often_as_it_may_be(self, store: FaultyStore, time: Time) -> None:
        engine, rerunner = self.second(store, time, max_attempts=2)
        operation = lost(engine, start(engine))
        engine.recover()
        lost(engine, operation)
        engine.recover()
        assert (len(rerunner.runs), stored(engine, operation).reason) == (1, Reason.INTERRUPTED)

    def test_nobody_runs_it_who_cannot(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = lost(engine, start(engine))
        other, rerunner = self.second(store, time)
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
        other, rerunner = self.second(store, time, limits={"operations": 1})
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
        other, rerunner = self.second(store, time)
        other.recover()
        assert (rerunner.runs, stored(other, operation).reason) == ([], Reason.INTERRUPTED)

    @pytest.mark.parametrize("method", ["read_request", "read_chunks", "swap"])
    def test_a_store_that_fails_meanwhile_loses_nothing(
        self, engine: Engine, store: FaultyStore, time: Time, method: str
    ) -> None:
        operation = start(engine)
        engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        other, rerunner = self.second(store, time)
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
        other, rerunner = self.second(leases, time)
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
        engine, rerunner = self.second(leases, time)
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
        other, rerunner = self.second(store, time)
        other.recover()
        assert rerunner.runs[0][0].progress is None

    def test_a_poll_that_sees_a_dead_process_releases_at_once(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = lost(engine, start(engine))
        other, _ = self.second(store, time)
        assert poll(other, operation.id).status == 202
        assert stored(other, operation).state is State.ACCEPTED


class TestMany(EngineTests):
    """Thousands that a process has left, or that wait."""

    def test_as_many_are_taken_up_at_once_as_there_is_room_for(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        for _ in range(250):
            lost(engine, start(engine))
        other, rerunner = make_engine(store, time, limits={"operations": 220}), Rerunner()
        other.recovery.rerunner = rerunner
        assert other.recover() == 250
        assert (len(rerunner.runs), other.recovery.has_more) == (220, False)

    def test_a_turn_that_is_too_short_is_followed_by_the_next(
        self, engine: Engine, store: FaultyStore, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left = [lost(engine, start(engine)) for _ in range(5)]
        other, rerunner, turns = make_engine(store, time), Rerunner(), list[float]()
        other.recovery.rerunner = rerunner
        monkeypatch.setattr(other.heartbeat, "recover_soon", lambda: turns.append(time.now))
        swap = store.swap

        def swap_slowly(*args: Any, **drops: Any) -> bool:
            time.now += 0.6
            return swap(*args, **drops)

        monkeypatch.setattr(store, "swap", swap_slowly)
        began = 0
        while began == len(turns):
            began += 1
            other.recover()
        assert {run[0].id for run in rerunner.runs} == {operation.id for operation in left}
        assert len(turns) > 1

    @pytest.mark.parametrize("places", [["/api"] * 6 + [""], ["/api"] * 6])
    def test_what_may_not_be_run_here_holds_up_nothing_behind_it_and_is_let_be(
        self, store: FaultyStore, time: Time, monkeypatch: pytest.MonkeyPatch, places: list[str]
    ) -> None:
        first, other = (make_engine(store, time, application="mounted") for _ in range(2))
        left = list[Operation]()
        for place in places:
            time.now += 1  # they wait in this order
            left.append(lost(first, start(first, root_path=place)))
        rerunner, find, looks = Rerunner(), store.find, list[Filter]()
        other.recovery.rerunner = rerunner
        other.come_in_at("")
        other.recovery.let_go()

        def find_slowly(which: Filter, **more: Any) -> Any:
            looks.append(which)
            time.now += 0.4
            return find(which, **more)

        monkeypatch.setattr(store, "find", find_slowly)
        monkeypatch.setattr("raincheck.engine.repository._BATCH", 1)
        has_more, turns = True, 0
        while has_more:
            turns += 1
            assert turns < 10
            other.recovery.has_more = False
            other.recovery.take_up(100)
            has_more = other.recovery.has_more
        assert turns > 1
        assert [run[0].id for run in rerunner.runs] == [o.id for o in left[6:]]
        looks.clear()
        other.recovery.take_up(100)
        assert bool(looks) is bool(rerunner.runs)  # in vain is not looked again so soon

    def test_what_waits_is_not_read_where_it_can_not_be_run(
        self, engine: Engine, store: FaultyStore, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """But once a minute, for what has waited too long."""
        engine.finish(start(engine), Ending(Ended(Reason.SHUTDOWN)))
        other, read, find = make_engine(store, time), list[Operation](), store.find

        def note(*args: Any, **more: Any) -> Any:
            page = find(*args, **more)
            read.extend(page[0])
            return page

        monkeypatch.setattr(store, "find", note)
        for _ in range(13):
            other.recover()
            time.now += 5
        assert len(read) == 2


class TestRequests(EngineTests):
    """What is kept of a request, and for how long."""

    @pytest.mark.parametrize("end", ["finish", "cancel", "interrupt"])
    def test_it_is_gone_with_the_end(self, engine: Engine, store: FaultyStore, end: str) -> None:
        operation = start(engine)
        assert store.read_request(operation.id) is not None
        if end == "finish":
            engine.finish(operation, answer(operation))
        else:
            engine.cancel(operation.id) if end == "cancel" else None
            engine.finish(operation, Ending(Ended(Reason.EXCEPTION)))
        assert stored(engine, operation).is_terminal
        assert store.read_request(operation.id) is None
        assert not any(fence == 0 for fence, _ in _chunks(store, operation))

    def test_it_is_not_kept_where_it_may_not_be_run_again(
        self, engine: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("raincheck.handler._known_markings", set())
        by_method = [start(engine, method) for method in ("POST", "PATCH", "PUT", "DELETE")]
        for operation in (*by_method, start(engine, marking=Marking(retry=False))):
            assert store.read_request(operation.id) is None
            assert not stored(engine, operation).captured

    def test_nor_where_its_handler_has_not_said_that_it_may(
        self, engine: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "raincheck.handler._known_markings", {Marking(retry=True)}
        )  # another has
        said = Marking(is_said=True)
        assert store.read_request(start(engine, "POST", marking=said).id) is None
        later = start(engine, "POST")
        assert store.read_request(later.id) is not None  # it may say so yet
        engine.mark(later, said)
        assert store.read_request(later.id) is None
        assert not stored(engine, later).captured

    def test_what_a_handler_says_later_counts(self, engine: Engine, store: FaultyStore) -> None:
        operation = start(engine)
        engine.mark(operation, Marking(retry=False))
        assert not stored(engine, operation).repeatable
        assert store.read_request(operation.id) is None
        assert not any(fence == 0 for fence, _ in _chunks(store, operation))
        engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        assert stored(engine, operation).reason is Reason.SHUTDOWN


def _chunks(store: FaultyStore, operation: Operation) -> list[tuple[int, int]]:
    shelf = store._shelves.get(operation.id)
    return list(shelf.chunks) if shelf is not None else []


class TestTime(EngineTests):
    """Handlers that have had their time, and operations that nobody asks for."""

    def test_a_handler_that_runs_too_long_is_given_up(self, store: FaultyStore, time: Time) -> None:
        engine, run, ends = make_engine(store, time, timeout=10), Run(), []
        start(engine, run=run)
        for seconds in (9, 2):
            time.now += seconds
            engine.beat()
            ends.append(run.given_up)
        assert ends == [None, Reason.TIMEOUT]

    def test_its_own_mark_says_how_long(self, store: FaultyStore, time: Time) -> None:
        engine, early, late = make_engine(store, time, timeout=10), Run(), Run()
        start(engine, run=early, marking=Marking(timeout=2))
        engine.mark(start(engine, run=late), Marking(timeout=20))
        time.now += 11
        engine.beat()
        assert (early.given_up, late.given_up) == (Reason.TIMEOUT, None)

    def test_a_handler_that_goes_on_is_still_in_flight(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine = make_engine(store, time, timeout=10, limits={"operations": 1})
        operation = start(engine)
        time.now += 11
        engine.beat()
        engine.finish(operation, Ending(Ended(Reason.TIMEOUT)))
        was_full = engine.is_full
        engine.land(operation)
        assert (was_full, engine.is_full) == (True, False)
        assert stored(engine, operation).reason is Reason.TIMEOUT

    def test_a_handler_that_will_never_go_on_is_given_up_without_a_store(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine, stranded, running = make_engine(store, time), Run(), Run()
        start(engine, run=stranded)
        start(engine, run=running)
        stranded.is_stranded = True
        store.faults = frozenset({"find", "get", "swap"})
        with pytest.raises(StoreUnavailable):
            engine.beat()
        assert (stranded.given_up, running.given_up) == (Reason.SHUTDOWN, None)

    def test_what_nobody_asks_for_is_cancelled(self, store: FaultyStore, time: Time) -> None:
        engine, run = make_engine(store, time, abandon_after=100), Run()
        operation = start(engine, run=run)
        for _ in range(5):
            time.now += 50
            assert poll(engine, operation.id).status == 202
            engine.beat()
        assert run.cancels == 0
        keep_beating(engine, time, 95)
        time.now += 6
        engine.beat()
        assert (run.cancels, stored(engine, operation).state) == (1, State.CANCELLING)

    def test_polls_in_another_process_count(self, store: FaultyStore, time: Time) -> None:
        here, there = (make_engine(store, time, abandon_after=100) for _ in "ab")
        run = Run()
        operation = start(here, run=run)
        for _ in range(5):
            time.now += 60
            poll(there, operation.id)
            here.beat()
        assert run.cancels == 0

    def test_a_stranger_keeps_nothing_alive(self, store: FaultyStore, time: Time) -> None:
        engine, run = make_engine(store, time, abandon_after=100), Run()
        operation = start(engine, run=run, owner="ada")
        keep_beating(engine, time, 90)
        assert poll(engine, operation.id, owner="bob").status == 404
        keep_beating(engine, time, 5)
        time.now += 6
        engine.beat()
        assert run.cancels == 1

    def test_what_somebody_will_be_told_of_is_not_abandoned(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine, run = make_engine(store, time, abandon_after=100), Run()
        start(engine, run=run, webhook="https://example.org/")
        time.now += 1000
        engine.beat()
        assert run.cancels == 0

    def test_polls_write_nothing_where_it_does_not_count(self, engine: Engine, time: Time) -> None:
        operation = start(engine)
        time.now += 50
        poll(engine, operation.id)
        assert stored(engine, operation).version == operation.version


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


class TestMoments(EngineTests):
    """What several processes do at once, or one that is killed in the middle."""

    def second(self, store: FaultyStore, time: Time) -> tuple[Engine, Rerunner]:
        engine, rerunner = make_engine(store, time), Rerunner()
        engine.recovery.rerunner = rerunner
        return engine, rerunner

    def test_who_comes_late_to_let_go_does_not_end_what_was_released(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = lost(engine, start(engine))
        here, there = make_engine(store, time), make_engine(store, time)
        assert here.recovery.let_go_of(operation)
        assert not there.recovery.let_go_of(operation)
        assert stored(there, operation).state is State.ACCEPTED

    def test_who_has_renewed_meanwhile_is_not_let_go(self, time: Time) -> None:
        leases = LeaseOnlyStore(clock=time)
        engine, other = make_engine(leases, time), make_engine(leases, time)
        operation = start(engine)
        other.recover()
        time.now += LEASE / 2
        other.recover()
        time.now += LEASE / 2
        stale = stored(other, operation)
        engine.beat()
        assert not other.recovery.let_go_of(stale)
        assert stored(other, operation).state is State.RUNNING

    def test_who_is_killed_while_forgetting_leaves_no_body(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = start(engine)
        engine.finish(operation, answer(operation))
        store.faults = frozenset({"swap"})
        with pytest.raises(StoreUnavailable):
            engine.forget(operation.id)
        store.faults = frozenset()
        assert _chunks(store, operation) == []
        assert poll(engine, operation.id).status in (200, 410)

    def test_who_wakes_up_after_the_end_leaves_no_chunks(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = start(engine, "POST")
        lost(engine, operation)
        other, _ = self.second(store, time)
        other.recover()
        engine.write(operation, 0, b"late")
        engine.finish(operation, answer(operation))
        assert _chunks(store, operation) == []

    def test_a_beat_before_the_record_is_there_does_nothing(self, time: Time) -> None:
        leases = LeaseOnlyStore(clock=time)
        engine, run, create = make_engine(leases, time), Run(), leases.create
        engine.health.last_failure = time.now + 1  # the store was away

        def create_late(*args: Any) -> Operation:
            engine.beat()
            return create(*args)

        leases.create = create_late  # type: ignore[method-assign,assignment]
        operation = start(engine, run=run)
        assert leases.read_request(operation.id) is not None
        assert run.cancels == 0

    def test_nobody_ends_what_waits_for_another_application(
        self, store: FaultyStore, time: Time
    ) -> None:
        ours = make_engine(store, time, application="ours", retention=1000)
        theirs = make_engine(store, time, application="theirs", retention=1)
        operation = start(ours)
        ours.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        time.now += 500
        theirs.recover()
        assert stored(ours, operation).state is State.ACCEPTED


class TestStaleProcesses(EngineTests):
    def test_what_others_have_released_is_not_theirs_to_end(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = lost(engine, start(engine))
        make_engine(store, time).recover()
        assert stored(engine, operation).state is State.ACCEPTED
        engine.finish(operation, Ending(Ended(Reason.EXCEPTION)))
        assert stored(engine, operation).state is State.ACCEPTED
        assert store.read_request(operation.id) is not None

    @pytest.mark.parametrize("step", ["create", "swap"])
    def test_an_answer_that_is_lost_leaves_nothing_running_where_the_store_sees_who_lives(
        self, engine: Engine, store: FaultyStore, time: Time, step: str
    ) -> None:
        if step == "swap":
            operation = start(engine)
            engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        other, rerunner, original = make_engine(store, time), Rerunner(), getattr(store, step)
        other.recovery.rerunner = rerunner

        def work_and_fail(*args: Any, **drops: Any) -> None:
            setattr(store, step, original)
            original(*args, **drops)
            raise StoreUnavailable("the answer is lost")

        setattr(store, step, work_and_fail)
        with pytest.raises(StoreUnavailable):
            start(other) if step == "create" else other.recover()
        other.recover()
        (found,), _ = store.find(Filter())
        runs = [run[0].fence for run in rerunner.runs]
        assert (found.state, runs) == (
            (State.FAILED, []) if step == "create" else (State.RUNNING, [3])
        )

    def test_a_rerun_that_fails_to_begin_is_let_go(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = start(engine)
        engine.finish(operation, Ending(Ended(Reason.SHUTDOWN)))
        other = make_engine(store, time)

        class Broken(Rerunner):
            def rerun(self, *args: Any) -> Run:
                raise MemoryError

        other.recovery.rerunner = Broken()
        with pytest.raises(MemoryError):
            other.recover()
        other.recovery.rerunner = Rerunner(is_ready=False)
        other.recover()
        assert stored(other, operation).state is State.ACCEPTED
