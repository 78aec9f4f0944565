"""Operations that wait in a queue: told of, told of again, taken up by workers, or ended."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from raincheck.config.options import Settings
from raincheck.engine import errands, telling
from raincheck.engine.engine import Engine
from raincheck.engine.queues import AGAIN, LOOK, Take
from raincheck.engine.start import Start
from raincheck.engine.telling import DOUBT, Telling
from raincheck.errors import (
    ConfigurationError,
    NewerRecord,
    OperationCancelled,
    RaincheckError,
    StoreUnavailable,
    WorkersUnavailable,
)
from raincheck.handler import Marking
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, Reason, State
from raincheck.operations.transitions import Claimed, Polled
from raincheck.stores.memory import MemoryStore
from tests.unit.engines import (
    BODY,
    REQUEST,
    EngineTests,
    FaultyStore,
    Hang,
    NoHeartbeat,
    Rerunner,
    Run,
    Time,
    answer,
    lose_one_answer,
    lost,
    make_engine,
    start,
    stored,
    wait_until,
)

DAY = 86_400.0


class FetchingStore(FaultyStore):
    """Gives an operation and its request at once, and counts what else it is asked for."""

    def __init__(self, clock: Time) -> None:
        super().__init__(clock=clock)
        self.asked: Counter[str] = Counter()

    def fetch(self, operation_id: str) -> tuple[Operation, Request | None] | None:
        self.asked["fetch"] += 1
        found = MemoryStore.get(self, operation_id)
        return None if found is None else (found, MemoryStore.read_request(self, operation_id))

    def get(self, operation_id: str) -> Operation | None:
        self.asked["get"] += 1
        return super().get(operation_id)

    def read_request(self, operation_id: str) -> Request | None:
        self.asked["read_request"] += 1
        return super().read_request(operation_id)


class Bell:
    """Tells workers: remembers whom it was told of, or fails."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.error: Exception | None = None

    def __call__(self, operation_id: str) -> None:
        if self.error is not None:
            raise self.error
        self.rung.append(operation_id)


@pytest.fixture(autouse=True)
def no_marks_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raincheck.handler.marking._known_markings", set())


class QueueTests(EngineTests):
    """A web process whose workers are told, one that serves the queue, and time to pass."""

    @pytest.fixture
    def time(self, monkeypatch: pytest.MonkeyPatch) -> Time:
        time = EngineTests.time.__wrapped__(self, monkeypatch)  # type: ignore[attr-defined]
        for module in ("queues", "telling"):
            monkeypatch.setattr(f"raincheck.engine.{module}.time", SimpleNamespace(monotonic=time))
        found: Time = time
        return found

    @pytest.fixture
    def bell(self) -> Bell:
        return Bell()

    @pytest.fixture
    def web(self, store: FaultyStore, time: Time, bell: Bell) -> Iterator[Engine]:
        engine = make_engine(store, time, application="parcels", workers={"workers": bell})
        yield engine
        engine.close()

    @pytest.fixture
    def rerunner(self) -> Rerunner:
        return Rerunner()

    @pytest.fixture
    def worker(self, store: FaultyStore, time: Time, rerunner: Rerunner) -> Iterator[Engine]:
        engine = make_engine(store, time, application="parcels")
        engine.recovery.rerunner = rerunner
        engine.queues.served = frozenset({"workers", "nightly"})
        yield engine
        engine.close()


def wait_in(engine: Engine, queue: str = "workers", **more: Any) -> Operation:
    return start(engine, queue=queue, **({"method": "POST"} | more))


def later(time: Time, engine: Engine, seconds: float) -> None:
    """Let time pass, and the process that accepts look round."""
    time.now += seconds
    engine.recover()


class TestHandingOver(QueueTests):
    def test_what_waits_in_a_queue_runs_in_no_process_and_its_workers_are_told(
        self, web: Engine, bell: Bell, time: Time
    ) -> None:
        operation = stored(web, wait_in(web))
        assert (operation.state, operation.queue, operation.worker) == (
            State.ACCEPTED,
            "workers",
            None,
        )
        assert (operation.fence, operation.lease) == (0, time.now + AGAIN)
        assert bell.rung == [operation.id]
        assert not len(web.running)

    def test_where_nobody_is_told_workers_may_take_it_up_at_once(
        self, web: Engine, bell: Bell, time: Time
    ) -> None:
        assert stored(web, wait_in(web, "nightly")).lease == time.now
        assert not bell.rung

    def test_when_workers_cant_be_told_nothing_is_left_of_it(
        self, web: Engine, bell: Bell, store: FaultyStore
    ) -> None:
        bell.error = ConnectionError("the broker is down")
        with pytest.raises(WorkersUnavailable, match="broker is down"):
            wait_in(web)
        [(operation, *_)] = [(each,) for each in store._operations.values()]
        assert (operation.state, operation.reason) == (State.FAILED, Reason.INTERRUPTED)
        assert web.store.read_request(operation.id) is None

    def test_who_could_not_be_told_is_left_alone_for_a_while(
        self, web: Engine, bell: Bell, time: Time
    ) -> None:
        bell.error = ConnectionError("the broker is down")
        with pytest.raises(WorkersUnavailable):
            wait_in(web)
        bell.error = None
        with pytest.raises(WorkersUnavailable, match="a moment ago"):
            wait_in(web)
        time.now += DOUBT
        assert bell.rung == [wait_in(web).id]

    def test_a_request_whose_body_is_gone_can_wait_for_no_worker(self, web: Engine) -> None:
        with pytest.raises(RaincheckError, match="body is gone"):
            web.accept(Run(), Start(method="POST", route="/", queue="workers"))

    def test_what_was_recorded_although_its_client_was_refused_runs_nowhere(
        self, web: Engine, store: FaultyStore, bell: Bell, time: Time
    ) -> None:
        lose_one_answer(store, "create")
        with pytest.raises(StoreUnavailable, match="answer is lost"):
            wait_in(web)
        web.recover()
        [operation] = store._operations.values()
        assert (operation.state, operation.reason) == (State.FAILED, Reason.INTERRUPTED)
        assert web.store.read_request(operation.id) is None
        later(time, web, 2 * AGAIN)
        assert not bell.rung

    def test_what_was_recorded_too_late_is_taken_back(
        self, web: Engine, store: FaultyStore, bell: Bell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hang = Hang(store)
        monkeypatch.setattr(errands, "Deadline", hang.deadline)
        hang.at("create")
        with pytest.raises(StoreUnavailable, match="has not answered"):
            wait_in(web)
        hang.end()
        wait_until(lambda: [o.state for o in store._operations.values()] == [State.FAILED])
        assert not bell.rung

    def test_what_waits_has_a_heartbeat_look_after_it(self, web: Engine) -> None:
        class Beats(NoHeartbeat):
            ensured = 0

            def ensure(self, *, soon: bool = True) -> None:
                self.ensured += 1

        web.heartbeat = beats = Beats(web)
        wait_in(web)
        assert beats.ensured == 1

    def test_limits_of_this_process_do_not_count_for_what_runs_elsewhere(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine = make_engine(store, time, limits={"operations": 1})
        start(engine)
        assert stored(engine, wait_in(engine)).queue == "workers"

    def test_an_operation_that_has_not_begun_may_be_handed_over(
        self, web: Engine, bell: Bell, worker: Engine, rerunner: Rerunner
    ) -> None:
        operation = start(web, "GET")
        handed = web.queues.hand_over(operation, "workers", None)
        assert handed is not None
        assert (bell.rung, len(web.running)) == ([operation.id], 0)
        assert worker.queues.take(operation.id) is Take.BEGUN
        [(claimed, request, body)] = rerunner.runs
        assert (claimed.attempts, claimed.fence) == (1, 2)
        assert (request.headers, body) == (REQUEST.headers, BODY)

    def test_what_was_handed_over_is_not_ended_by_who_had_it_before(
        self, web: Engine, worker: Engine
    ) -> None:
        operation = start(web, "GET")
        web.queues.hand_over(operation, "workers", None)
        web.finish(operation, answer(operation))
        assert stored(web, operation).state is State.ACCEPTED

    def test_without_its_request_nothing_is_handed_over(self, web: Engine) -> None:
        operation = start(web, "POST")
        assert web.queues.hand_over(operation, "workers", None) is None
        assert stored(web, operation).state is State.RUNNING


class TestFetching(QueueTests):
    """With a store that gives all of an operation in one round trip."""

    @pytest.fixture
    def store(self, time: Time) -> FetchingStore:
        return FetchingStore(time)

    def test_from_the_message_to_the_end_the_store_is_asked_once(
        self, web: Engine, worker: Engine, rerunner: Rerunner, store: FetchingStore
    ) -> None:
        operation = wait_in(web)
        store.asked.clear()
        assert worker.queues.take(operation.id) is Take.BEGUN
        [(claimed, request, body)] = rerunner.runs
        assert (request.headers, body) == (REQUEST.headers, BODY)
        worker.finish(claimed, answer(claimed))
        assert store.asked == {"fetch": 1}
        assert stored(web, operation).state is State.SUCCEEDED

    @pytest.mark.parametrize("by", ["another worker", "a poll"])
    def test_what_has_changed_since_is_looked_at_again(
        self,
        web: Engine,
        worker: Engine,
        rerunner: Rerunner,
        store: FetchingStore,
        monkeypatch: pytest.MonkeyPatch,
        by: str,
    ) -> None:
        operation, fetch = wait_in(web), store.fetch
        event = Claimed("w", 30.0) if by == "another worker" else Polled()

        def fetch_before(operation_id: str) -> Any:
            found = fetch(operation_id)
            assert web.repository.change(operation_id, event) is not None
            return found

        monkeypatch.setattr(store, "fetch", fetch_before)
        is_taken = by == "another worker"
        assert worker.queues.take(operation.id) is (Take.ELSEWHERE if is_taken else Take.BEGUN)
        assert len(rerunner.runs) == len(worker.running) == (0 if is_taken else 1)

    def test_a_request_that_can_not_be_read_is_none_of_the_operations_faults(
        self, web: Engine, worker: Engine, store: FetchingStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        operation = wait_in(web)

        def refuse(operation_id: str) -> Any:
            raise NewerRecord("it is of a newer raincheck")

        monkeypatch.setattr(store, "fetch", refuse)
        monkeypatch.setattr(store, "read_request", refuse)
        assert worker.queues.take(operation.id) is Take.REFUSED
        assert stored(web, operation).state is State.ACCEPTED


class TestTellingAgain(QueueTests):
    def test_workers_are_told_again_of_what_nobody_takes_up_and_less_and_less_often(
        self, web: Engine, bell: Bell, time: Time
    ) -> None:
        begin, operation = time.now, wait_in(web)
        told: list[float] = []
        for _ in range(60):
            later(time, web, LOOK)
            if len(bell.rung) > len(told) + 1:
                told.append(time.now - begin)
        assert told[0] <= AGAIN + LOOK
        assert len(told) <= 4  # within a quarter of an hour
        assert set(bell.rung) == {operation.id}

    def test_of_several_processes_one_tells_again(
        self, web: Engine, bell: Bell, time: Time, store: FaultyStore
    ) -> None:
        other = make_engine(store, time, application="parcels", workers={"workers": bell})
        wait_in(web)
        time.now += AGAIN
        web.recover()
        other.recover()
        assert len(bell.rung) == 2

    def test_other_applications_tell_nobody(
        self, web: Engine, time: Time, store: FaultyStore
    ) -> None:
        theirs = Bell()
        other = make_engine(store, time, application="bank", workers={"workers": theirs})
        wait_in(web)
        later(time, other, AGAIN + LOOK)
        assert not theirs.rung

    def test_a_failure_to_tell_again_costs_no_promise(
        self, web: Engine, bell: Bell, time: Time
    ) -> None:
        operation = wait_in(web)
        bell.error = ConnectionError("the broker is down")
        later(time, web, AGAIN + LOOK)
        assert stored(web, operation).state is State.ACCEPTED
        bell.error = None
        later(time, web, 4 * AGAIN)
        assert bell.rung == [operation.id] * 2

    @pytest.mark.parametrize("queue", ["workers", "nightly"])
    def test_what_has_found_no_worker_in_a_week_ends(
        self, web: Engine, time: Time, queue: str
    ) -> None:
        operation = wait_in(web, queue)
        for _ in range(4):
            later(time, web, 1.5 * DAY)
        assert stored(web, operation).state is State.ACCEPTED
        for _ in range(10):
            later(time, web, 1.5 * DAY)
        ended = stored(web, operation)
        assert (ended.state, ended.reason) == (State.FAILED, Reason.EXPIRED_BEFORE_START)
        assert web.store.read_request(operation.id) is None


class TestTakingUp(QueueTests):
    def test_a_worker_runs_what_it_is_told_of_once(
        self, web: Engine, worker: Engine, rerunner: Rerunner, time: Time
    ) -> None:
        operation = wait_in(web)
        time.now += 5
        assert worker.queues.take(operation.id) is Take.BEGUN
        assert worker.queues.take(operation.id) is Take.ELSEWHERE
        [(claimed, request, body)] = rerunner.runs
        assert (claimed.fence, claimed.attempts, claimed.started) == (1, 1, time.now)
        assert (request, body) == (replace(request, headers=REQUEST.headers), BODY)
        worker.finish(claimed, answer(claimed))
        assert worker.queues.take(operation.id) is Take.OVER
        assert stored(web, operation).state is State.SUCCEEDED

    def test_of_an_unknown_operation_nothing_is_to_be_run(self, worker: Engine) -> None:
        assert worker.queues.take("f" * 32) is Take.OVER

    def test_a_worker_finds_what_waits_in_its_queues_the_oldest_first(
        self, web: Engine, worker: Engine, rerunner: Rerunner, time: Time
    ) -> None:
        waiting = []
        for queue in ("nightly", "nightly", "others", "nightly"):
            waiting.append(wait_in(web, queue).id)
            time.now += 1
        assert worker.queues.take_due(2) == waiting[:2]
        assert worker.queues.take_due(9) == waiting[3:]
        assert len(worker.running) == 3

    def test_a_worker_that_nobody_told_takes_up_what_would_be_told_again(
        self, web: Engine, worker: Engine, time: Time
    ) -> None:
        operation = wait_in(web)
        assert worker.queues.take_due(9) == []
        time.now += AGAIN
        assert worker.queues.take_due(9) == [operation.id]

    def test_web_processes_take_up_nothing_that_waits_for_workers(
        self, web: Engine, time: Time, rerunner: Rerunner
    ) -> None:
        web.recovery.rerunner = rerunner
        wait_in(web, "nightly", method="GET")
        later(time, web, 100)
        assert not rerunner.runs

    def test_workers_take_up_nothing_that_waits_for_web_processes(
        self, web: Engine, worker: Engine, time: Time, rerunner: Rerunner
    ) -> None:
        web.recovery.let_go_of(lost(web, start(web, "GET")))
        later(time, worker, 100)
        assert worker.queues.take_due(9) == []
        assert not rerunner.runs

    def test_a_worker_says_once_that_something_waits_for_an_application_of_another_name(
        self, web: Engine, worker: Engine, time: Time, caplog: pytest.LogCaptureFixture
    ) -> None:
        worker.queues.look_for_strangers()
        wait_in(web, "nightly")
        worker.queues.look_for_strangers()
        assert not caplog.text
        other = make_engine(worker.store, time, application="letters")  # type: ignore[arg-type]
        wait_in(other, "nightly")
        for _ in range(2):
            worker.queues.look_for_strangers()
        assert (
            caplog.text.count("wait in queue 'nightly' for 'letters', and this is 'parcels'") == 1
        )

    def test_a_worker_says_that_it_can_run_nothing_of_what_waits(
        self, web: Engine, worker: Engine, rerunner: Rerunner, caplog: pytest.LogCaptureFixture
    ) -> None:
        rerunner.is_ready = False
        wait_in(web, "nightly")
        assert worker.queues.take_due(1) == []
        assert "stays in its queue" in caplog.text

    def test_before_its_time_no_worker_begins(
        self, web: Engine, worker: Engine, bell: Bell, time: Time
    ) -> None:
        operation = wait_in(web, not_before=time.now + 3600)
        assert not bell.rung
        assert worker.queues.take(operation.id) is Take.EARLY
        assert worker.queues.take_due(9) == []
        for _ in range(int(3600 / LOOK)):  # longer than it would be kept
            later(time, web, LOOK)
        assert stored(web, operation).state is State.ACCEPTED
        assert bell.rung == [operation.id]
        assert worker.queues.take(operation.id) is Take.BEGUN

    def test_what_a_lost_worker_ran_goes_back_into_its_queue_if_it_may_be_run_again(
        self, web: Engine, worker: Engine, bell: Bell, time: Time, rerunner: Rerunner
    ) -> None:
        operation = wait_in(web, method="GET")
        worker.queues.take(operation.id)
        web.recovery.let_go_of(lost(worker, operation))
        released = stored(web, operation)
        assert (released.state, released.queue) == (State.ACCEPTED, "workers")
        web.recover()  # they are told at once
        assert bell.rung == [operation.id] * 2
        assert worker.queues.take(operation.id) is Take.BEGUN
        assert [run[0].attempts for run in rerunner.runs] == [1, 2]

    def test_what_may_not_be_run_twice_ends_with_its_worker(
        self, web: Engine, worker: Engine
    ) -> None:
        operation = wait_in(web, method="POST")
        worker.queues.take(operation.id)
        web.recovery.let_go_of(lost(worker, operation))
        ended = stored(web, operation)
        assert (ended.state, ended.reason) == (State.FAILED, Reason.INTERRUPTED)

    def test_what_was_claimed_and_never_begun_is_not_taken_for_run(
        self, web: Engine, worker: Engine, store: FaultyStore, time: Time, rerunner: Rerunner
    ) -> None:
        operation = wait_in(web, method="POST")

        def lose_the_answer(operation: Operation, request: Request, body: Any) -> Run:
            raise OSError("no file can be opened")

        rerunner.rerun = lose_the_answer  # type: ignore[method-assign]
        with pytest.raises(OSError, match="no file"):
            worker.queues.take(operation.id)
        worker.recover()
        left = stored(web, operation)
        assert (left.state, left.queue) == (State.ACCEPTED, "workers")

    def test_a_worker_knows_its_application_wherever_that_is_mounted(
        self, web: Engine, worker: Engine
    ) -> None:
        operation = wait_in(web, root_path="/api")
        assert worker.queues.take(operation.id) is Take.BEGUN

    def test_a_workers_end_can_be_waited_for(self, web: Engine, worker: Engine) -> None:
        operation = wait_in(web)
        worker.queues.take(operation.id)
        assert not worker.running.wait_for(operation.id, 0)
        ended = threading.Event()
        worker.running.at_end = ended.set
        claimed = stored(web, operation)
        worker.finish(claimed, answer(claimed))
        assert ended.is_set()
        assert worker.running.wait_for(operation.id, 0)

    def test_what_is_expected_of_a_queue_counts_from_its_handlers_begin(
        self, web: Engine, worker: Engine, time: Time
    ) -> None:
        operation = wait_in(web, method="GET")
        time.now += 500
        worker.queues.take(operation.id)
        time.now += 7
        claimed = stored(web, operation)
        worker.finish(claimed, answer(claimed))
        [sketch] = worker.durations._here.get().news.values()
        assert sketch.points == ((7.0, 1.0),)


def test_who_hangs_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "BOUND", 0.05)
    go = threading.Event()
    tell = Telling({"workers": lambda _: go.wait(30)}).tell
    operation = Operation("a", State.ACCEPTED, 0, 0, 1, "GET", "/", queue="workers")
    with pytest.raises(WorkersUnavailable, match=r"no answer within 0.05 s"):
        tell(operation)
    go.set()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"workers": {"a": "celery"}, "application": "x"}, "workers must map names to callables"),
        ({"workers": [print], "application": "x"}, "workers must map names to callables"),
        ({"workers": {"a": print}}, "workers needs application"),
        ({"runners": {"/a": 1}}, "runners must map path patterns to names"),
        ({"runners": {"a": "b"}}, "a path pattern begins with a slash"),
    ],
)
def test_wrong_workers_are_complained_of_at_construction(
    options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Settings.build(options)


class TestWhatGoesWrongOnTheWay(QueueTests):
    def test_who_has_begun_although_telling_has_failed_is_left_to_go_on_and_the_client_is_told(
        self, web: Engine, worker: Engine, bell: Bell
    ) -> None:
        def tell(operation_id: str) -> None:
            assert worker.queues.take(operation_id) is Take.BEGUN
            raise TimeoutError("the broker's answer is lost")

        web.queues._telling = Telling({"workers": tell})
        operation = stored(web, wait_in(web))
        assert (operation.state, operation.attempts) == (State.RUNNING, 1)

    def test_what_an_older_raincheck_has_released_into_a_queue_is_found_again(
        self, web: Engine, worker: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = stored(web, wait_in(web, "nightly"))
        assert store.swap(operation, replace(operation, lease=None, version=2))
        assert not worker.queues.take_due(1)
        later(time, worker, LOOK)
        assert worker.queues.take_due(1) == [operation.id]

    def test_what_this_worker_has_no_key_for_waits_for_one_that_has(
        self, store: FaultyStore, time: Time, rerunner: Rerunner
    ) -> None:
        keys = {"encryption_key": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}
        web = make_engine(store, time, application="parcels", retention=86_400.0, **keys)
        worker = make_engine(store, time, application="parcels")
        worker.recovery.rerunner = rerunner
        operation = wait_in(web, "nightly")
        time.now += 10_000.0
        assert worker.queues.take(operation.id) is Take.REFUSED
        assert stored(web, operation).state is State.ACCEPTED
        web.close()
        worker.close()

    def test_an_owner_who_has_turned_out_meanwhile_goes_with_it_to_the_queue(
        self, store: FaultyStore, time: Time
    ) -> None:
        web = make_engine(store, time, application="parcels", owner=lambda _: "nobody")
        operation = start(web)
        assert operation.unbound
        web.own(operation, "alice")
        web.queues.hand_over(operation, "nightly", None)
        left = stored(web, operation)
        assert (left.owner, left.unbound, left.queue) == ("alice", False, "nightly")
        web.close()

    def test_what_is_cancelled_runs_nowhere_when_its_handler_is_reached(self, web: Engine) -> None:
        operation = start(web)
        web.cancel(operation.id)
        with pytest.raises(OperationCancelled):
            web.queues.hand_over(operation, "nightly", None)


@pytest.mark.parametrize("moment", [float("inf"), float("nan"), -float("inf")])
def test_a_moment_that_never_comes_is_refused(moment: float) -> None:
    with pytest.raises(ValueError, match="not_before must return a moment"):
        Marking(not_before=lambda: moment).moment()
