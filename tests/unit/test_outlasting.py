"""What a handler must not go on without outlasts an outage of the store: a response is promised."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from raincheck.engine import running
from raincheck.engine.engine import Engine
from raincheck.engine.outbox import Ending
from raincheck.errors import StoreUnavailable
from raincheck.handler import Marking
from raincheck.operations.operation import Reason, State
from raincheck.operations.transitions import Ended
from tests.unit.engines import AWAY, EngineTests, FaultyStore, Time, make_engine, start, stored

REPEATABLE = Marking(retry=True)


class TestOutlasting(EngineTests):
    @pytest.fixture
    def engine(self, store: FaultyStore, time: Time) -> Engine:
        return make_engine(store, time, application="parcels")

    @pytest.fixture
    def asks(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
        """Count how often a handler has waited."""
        asks, wait = threading.Semaphore(0), engine.running.wait_for

        def note(operation_id: str, seconds: float | None = None) -> bool:
            asks.release()
            return wait(operation_id, seconds)

        monkeypatch.setattr(running, "PAUSE", 0.01)
        monkeypatch.setattr(engine.running, "wait_for", note)
        return asks

    @pytest.fixture
    def handler(self) -> Iterator[Callable[..., Future[object]]]:
        with ThreadPoolExecutor(1) as threads:
            yield threads.submit

    @pytest.fixture
    def away(self, store: FaultyStore) -> Iterator[Callable[[bool], None]]:
        def be(is_away: bool) -> None:
            store.faults = AWAY if is_away else frozenset()

        yield be
        be(False)

    def test_a_mark_outlasts_the_store(
        self,
        engine: Engine,
        asks: threading.Semaphore,
        handler: Callable[..., Future[object]],
        away: Callable[[bool], None],
    ) -> None:
        operation = start(engine, "POST")
        away(True)
        marked = handler(engine.mark, operation, REPEATABLE)
        for _ in range(3):
            asks.acquire()
        assert not marked.done()
        away(False)
        marked.result()
        assert stored(engine, operation).repeatable

    def test_what_is_handed_over_outlasts_the_store(
        self,
        engine: Engine,
        asks: threading.Semaphore,
        handler: Callable[..., Future[object]],
        away: Callable[[bool], None],
    ) -> None:
        operation = start(engine, "GET")
        away(True)
        handed = handler(engine.queues.hand_over, operation, "workers", None)
        asks.acquire()
        away(False)
        assert handed.result() is not None
        assert stored(engine, operation).queue == "workers"

    @pytest.mark.parametrize("end", ["ended", "let go"])
    def test_who_waits_hears_that_the_operation_is_over_here(
        self,
        engine: Engine,
        asks: threading.Semaphore,
        handler: Callable[..., Future[object]],
        away: Callable[[bool], None],
        end: str,
    ) -> None:
        operation = start(engine, "POST")
        away(True)
        marked = handler(engine.mark, operation, REPEATABLE)
        asks.acquire()
        if end == "ended":
            engine.finish(operation, Ending(Ended(Reason.TIMEOUT)))
        else:
            engine.running.drop(engine.running.of(operation))
        with pytest.raises(StoreUnavailable):
            marked.result()

    def test_the_main_thread_does_not_wait_as_it_hears_signals(
        self, engine: Engine, asks: threading.Semaphore, away: Callable[[bool], None]
    ) -> None:
        operation = start(engine, "POST")
        away(True)
        with pytest.raises(StoreUnavailable):
            engine.mark(operation, REPEATABLE)
        away(False)
        assert stored(engine, operation).state is State.RUNNING
