"""What a handler must not go on without outlasts an outage of the store: a response is promised."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import anyio
import pytest

from raincheck.engine import running
from raincheck.engine.engine import Engine
from raincheck.engine.outbox import Ending
from raincheck.errors import StoreUnavailable
from raincheck.handler import Marking
from raincheck.operations.operation import Reason, State
from raincheck.operations.transitions import Ended
from tests.support.asgi import BACKENDS
from tests.unit.engines import AWAY, EngineTests, FaultyStore, Time, make_engine, start, stored

REPEATABLE = Marking(retry=True)


@dataclass
class Outage:
    """A store that goes away, and a handler's thread that waits for it."""

    store: FaultyStore
    thread: ThreadPoolExecutor
    waits: threading.Semaphore

    def begin(self, work: Callable[..., object], *arguments: object) -> Future[object]:
        """Have the handler do something meanwhile; returns when it waits."""
        self.store.faults = AWAY
        done = self.thread.submit(work, *arguments)
        self.waits.acquire()
        return done

    def end(self) -> None:
        self.store.faults = frozenset()


class TestOutlasting(EngineTests):
    @pytest.fixture
    def engine(self, store: FaultyStore, time: Time) -> Engine:
        return make_engine(store, time, application="parcels")

    @pytest.fixture
    def outage(
        self, engine: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Outage]:
        waits, wait = threading.Semaphore(0), engine.running.wait_for

        def note(operation_id: str, seconds: float | None = None) -> bool:
            waits.release()
            return wait(operation_id, seconds)

        monkeypatch.setattr(running, "PAUSE", 0.01)
        monkeypatch.setattr(engine.running, "wait_for", note)
        with ThreadPoolExecutor(1) as thread:
            outage = Outage(store, thread, waits)
            yield outage
            outage.end()

    def test_a_mark_outlasts_the_store(self, engine: Engine, outage: Outage) -> None:
        operation = start(engine, "POST")
        marked = outage.begin(engine.mark, operation, REPEATABLE)
        outage.waits.acquire()
        assert not marked.done()
        outage.end()
        marked.result()
        assert stored(engine, operation).repeatable

    def test_what_is_handed_over_outlasts_the_store(self, engine: Engine, outage: Outage) -> None:
        operation = start(engine, "GET")
        handed = outage.begin(engine.queues.hand_over, operation, "workers", None)
        outage.end()
        assert handed.result() is not None
        assert stored(engine, operation).queue == "workers"

    @pytest.mark.parametrize("end", ["ended", "let go"])
    def test_who_waits_hears_that_the_operation_is_over_here(
        self, engine: Engine, outage: Outage, end: str
    ) -> None:
        operation = start(engine, "POST")
        marked = outage.begin(engine.mark, operation, REPEATABLE)
        if end == "ended":
            engine.finish(operation, Ending(Ended(Reason.TIMEOUT)))
        else:
            engine.running.drop(engine.running.of(operation))
        with pytest.raises(StoreUnavailable):
            marked.result()

    def test_the_main_thread_does_not_wait_as_it_hears_signals(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = start(engine, "POST")
        store.faults = AWAY
        with pytest.raises(StoreUnavailable):
            engine.mark(operation, REPEATABLE)
        store.faults = frozenset()
        assert stored(engine, operation).state is State.RUNNING

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_the_thread_of_an_event_loop_does_not_wait_as_others_are_served_in_it(
        self, engine: Engine, store: FaultyStore, outage: Outage, backend: str
    ) -> None:
        async def mark() -> None:
            engine.mark(operation, REPEATABLE)

        operation = start(engine, "POST")
        store.faults = AWAY
        marked = outage.thread.submit(partial(anyio.run, mark, backend=backend))
        with pytest.raises(StoreUnavailable):
            marked.result(30)
