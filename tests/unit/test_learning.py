"""What a process learns of durations, and how it shares that: not with a call for each request."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from raincheck.engine.durations import FRESH, Durations
from raincheck.engine.engine import Engine
from raincheck.engine.outbox import Ending
from raincheck.engine.start import Start
from raincheck.engine.store_health import DOUBT
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.http.messages import Request
from raincheck.monitor.endpoint import StatusMonitor
from raincheck.monitor.links import Resource
from raincheck.operations.operation import Reason, State
from raincheck.operations.transitions import Ended
from raincheck.stores.memory import MemoryStore
from raincheck.testing.material import make_operation
from tests.unit.engines import (
    EngineTests,
    FaultyStore,
    Run,
    Time,
    accept,
    answer,
    kept_back,
    make_engine,
    poll,
    stored,
)

RESULT: Any = object()


class Watched(FaultyStore):
    """Notes which of its methods are called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.called: list[str] = []
        for name in ("get", "find", "create", "swap", "recall", "keep", "holder"):
            setattr(self, name, self._noted(name, getattr(self, name)))

    def _noted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self.called.append(name)
            return method(*arguments, **more)

        return call


class Deaf(MemoryStore):
    """A store of somebody's who has not heard of values that are kept."""

    recall = keep = None  # type: ignore[assignment]


def run_for(engine: Engine, time: Time, seconds: float, times: int = 1, status: int = 200) -> None:
    for _ in range(times):
        operation = accept(engine)
        time.now += seconds
        engine.finish(operation, answer(operation, status))


def known(engine: Engine, route: str = "/reports") -> tuple[int, float] | None:
    """Return how many durations are known of a route, and the median."""
    past = engine.durations.of(make_operation(method="POST", route=route))
    return None if past is None else (past.count, round(past.quantile(0.5), 3))


def table(store: MemoryStore) -> tuple[str, Any]:
    (name,) = store._kept
    return name, json.loads(store.recall(name) or b"")


def once_after(store: FaultyStore, work: Callable[[], object]) -> Callable[..., bool]:
    """Return a `keep` that comes after something else, the first time."""
    works = [work]

    def keep(*arguments: Any) -> bool:
        while works:
            works.pop()()
        return type(store).keep(store, *arguments)

    return keep


class TestLearning(EngineTests):
    @pytest.fixture
    def store(self, time: Time) -> Watched:
        return Watched(clock=time)

    def test_operations_that_ended_are_learned_and_others_estimated(
        self, engine: Engine, time: Time
    ) -> None:
        assert known(engine) is None
        run_for(engine, time, 8, times=2)
        run_for(engine, time, 8, status=500)
        assert known(engine) == (3, 8)
        begun = accept(engine)
        response = poll(engine, begun.id)
        assert isinstance(response.body, bytes)
        assert response.header(b"retry-after") == b"8"
        assert "estimate" in json.loads(response.body)

    def test_the_202_at_the_start_has_an_estimate(self, engine: Engine, time: Time) -> None:
        run_for(engine, time, 8, times=3)
        started = StatusMonitor(engine).started(accept(engine), Request("POST", "/reports"), None)
        assert isinstance(started.body, bytes)
        assert started.header(b"retry-after") == b"8"
        assert json.loads(started.body)["estimate"] == "1970-01-12T13:47:12.000000Z"

    @pytest.mark.parametrize("how", ["cancelled", "attended", Reason.EXCEPTION, Reason.TIMEOUT])
    def test_an_end_that_tells_no_duration_is_not_learned(
        self, engine: Engine, time: Time, how: str | Reason
    ) -> None:
        start = Start(method="POST", route="/reports", is_attended=how == "attended")
        operation = engine.accept(Run(), start).operation
        time.now += 8
        if how == "cancelled":
            engine.cancel(operation.id)
        ending = Ending(Ended(how)) if isinstance(how, Reason) else answer(operation)
        engine.finish(operation, ending)
        assert stored(engine, operation).is_terminal
        assert known(engine) is None

    def test_an_end_that_is_recorded_late_is_not_learned(
        self, engine: Engine, store: Watched, time: Time
    ) -> None:
        late, _ = kept_back(engine, store)
        time.now += 8
        engine.beat()
        assert stored(engine, late).state is State.SUCCEEDED
        assert known(engine) is None

    def test_the_end_of_a_second_run_is_not_learned(self, engine: Engine) -> None:
        ended = make_operation(state=State.SUCCEEDED, result=RESULT, updated=1008.0)
        engine.durations.learn(replace(ended, fence=2))
        assert known(engine) is None
        engine.durations.learn(replace(ended, fence=1))
        assert known(engine) == (1, 8)

    def test_no_poll_and_no_end_asks_the_store_for_more(
        self, engine: Engine, store: Watched, time: Time
    ) -> None:
        def calls() -> list[str]:
            store.called.clear()
            operation = accept(engine)
            poll(engine, operation.id)
            poll(engine, operation.id, resource=Resource.STATUS)
            engine.finish(operation, answer(operation))
            return list(store.called)

        before = calls()
        run_for(engine, time, 8, times=5)
        engine.share()
        assert calls() == before
        assert not {"recall", "keep"} & set(before)

    def test_what_is_learned_is_written_once_for_all_of_a_beat(
        self, engine: Engine, store: Watched, time: Time
    ) -> None:
        run_for(engine, time, 8, times=50)
        store.called.clear()
        engine.share()
        assert store.called == ["recall", "keep"]
        engine.share()
        assert store.called == ["recall", "keep"]
        time.now += FRESH + 1
        engine.share()  # nobody has wanted to know
        assert store.called == ["recall", "keep"]

    def test_an_engine_that_learned_nothing_leaves_the_store_alone_when_it_closes(
        self, engine: Engine, store: Watched
    ) -> None:
        store.called.clear()
        engine.close()
        assert not {"recall", "keep"} & set(store.called)


class TestSharing(EngineTests):
    @pytest.fixture
    def other(self, store: FaultyStore, time: Time) -> Iterator[Engine]:
        other = make_engine(store, time)
        yield other
        other.close()

    def test_processes_hear_what_others_have_learned(
        self, engine: Engine, other: Engine, time: Time
    ) -> None:
        run_for(engine, time, 8, times=3)
        engine.share()
        other.share()
        assert known(other) == (3, 8)
        run_for(other, time, 8, times=2)
        other.share()
        assert known(engine) == (3, 8)
        time.now += FRESH + 1
        engine.share()
        assert known(engine) == (5, 8)

    def test_what_was_learned_outlives_the_processes(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        run_for(engine, time, 8, times=3)
        engine.close()
        again = make_engine(store, time)
        again.share()
        assert known(again) == (3, 8)

    def test_other_applications_on_the_store_learn_for_themselves(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        run_for(engine, time, 8, times=3)
        engine.share()
        stranger = make_engine(store, time, application="another")
        stranger.share()
        assert known(stranger) is None

    def test_nothing_is_lost_or_counted_twice_where_processes_write_at_the_same_time(
        self,
        engine: Engine,
        other: Engine,
        store: FaultyStore,
        time: Time,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run_for(engine, time, 8, times=3)
        run_for(other, time, 8, times=4)
        monkeypatch.setattr(store, "keep", once_after(store, other.share))
        engine.share()
        assert known(engine) == (7, 8)
        assert known(other) == (4, 8)
        time.now += FRESH + 1
        other.share()
        assert known(other) == (7, 8)

    def test_nothing_is_lost_where_two_have_learned_the_same(
        self,
        engine: Engine,
        other: Engine,
        store: FaultyStore,
        time: Time,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for one in (engine, other):
            ended = make_operation(state=State.SUCCEEDED, result=RESULT, updated=1008.0, fence=1)
            one.durations.learn(ended)
        monkeypatch.setattr(store, "keep", once_after(store, other.share))
        engine.share()
        assert known(engine) == (2, 8)

    def test_nothing_is_lost_or_counted_twice_where_the_store_fails(
        self, engine: Engine, store: FaultyStore, time: Time, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "raincheck")
        run_for(engine, time, 8, times=3)
        for fault in ("recall", "keep", "now"):
            store.faults = frozenset({fault})
            engine.share()
            assert known(engine) == (3, 8)
        assert sum("durations" in record.message for record in caplog.records) == 1
        store.faults = frozenset()
        run_for(engine, time, 8)
        engine.share()
        assert known(engine) == (4, 8)

    def test_a_store_that_fails_is_not_asked_while_leases_wait(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        run_for(engine, time, 8, times=3)
        with suppress(StoreUnavailable), engine.health.noticing():
            raise StoreUnavailable("it hangs")
        engine.share()
        assert not store._kept
        time.now += DOUBT + 1
        engine.share()
        assert store._kept

    def test_nothing_is_counted_twice_where_an_answer_was_lost(
        self,
        engine: Engine,
        other: Engine,
        store: FaultyStore,
        time: Time,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run_for(engine, time, 8, times=3)
        keep = store.keep

        def keep_and_fail(*arguments: Any) -> bool:
            monkeypatch.setattr(store, "keep", keep)
            keep(*arguments)
            raise StoreError("the answer is lost")

        monkeypatch.setattr(store, "keep", keep_and_fail)
        engine.share()
        run_for(engine, time, 8)
        engine.share()
        engine.share()
        other.share()
        assert known(engine) == known(other) == (4, 8)

    @pytest.mark.parametrize("text", [b"", b"\xff\0", b"[]", b'{"v":1,"routes":{"x":1}}'])
    def test_a_spoilt_table_is_begun_anew(
        self, engine: Engine, store: FaultyStore, time: Time, text: bytes
    ) -> None:
        run_for(engine, time, 8, times=3)
        engine.share()
        name, _ = table(store)
        store._kept[name] = text, time.now
        run_for(engine, time, 8, times=3)
        engine.share()
        assert known(engine) == (3, 8)
        assert table(store)[1]["v"] == 1

    def test_a_table_of_a_newer_raincheck_is_left_alone(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        run_for(engine, time, 8, times=3)
        engine.share()
        name, _ = table(store)
        store._kept[name] = b'{"v":9,"sketches":[]}', time.now
        run_for(engine, time, 8, times=3)
        engine.share()
        assert store.recall(name) == b'{"v":9,"sketches":[]}'
        assert known(engine) == (6, 8)

    def test_nothing_that_is_kept_names_a_path_or_a_person(
        self, engine: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = engine.accept(Run(), Start(method="GET", route="/users/ann/secret")).operation
        time.now += 3
        engine.finish(operation, answer(operation))
        engine.share()
        text = str(table(store))
        assert not any(word in text for word in ("ann", "users", "secret"))

    def test_on_a_store_that_keeps_no_values_each_process_learns_for_itself(
        self, time: Time
    ) -> None:
        store = Deaf(clock=time)
        engine = make_engine(store, time)
        run_for(engine, time, 8, times=3)
        engine.share()
        run_for(engine, time, 8)
        assert known(engine) == (4, 8)
        engine.close()


def test_a_fork_does_not_tell_again_what_its_parent_has_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    durations = Durations(MemoryStore(), lambda: "app")
    ended = make_operation(state=State.SUCCEEDED, fence=1, updated=1003.0, result=RESULT)
    durations.learn(ended)
    assert durations.of(ended) is not None
    monkeypatch.setattr("raincheck.engine.per_process.os.getpid", lambda: -1)
    assert durations.of(ended) is None
