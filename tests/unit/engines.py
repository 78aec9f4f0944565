"""Cores to test: a store that fails on command, and time that a test lets pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from raincheck.config.options import Settings
from raincheck.engine.engine import CHUNK_SIZE, Engine
from raincheck.engine.heartbeat import Heartbeat
from raincheck.engine.outbox import Ending
from raincheck.engine.start import Start
from raincheck.errors import StoreUnavailable
from raincheck.http.messages import Request, Response, StoredBody
from raincheck.monitor.endpoint import Poll, StatusMonitor
from raincheck.monitor.links import Resource
from raincheck.operations.operation import Operation, Progress, Reason, Result
from raincheck.operations.transitions import Responded
from raincheck.stores.memory import MemoryStore

RETENTION = 600.0


class Time:
    """The store's clock and the process's own: both pass when a test says so, or sleeps."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FaultyStore(MemoryStore):
    """Fails in the methods named in `faults`."""

    faults: frozenset[str] = frozenset()

    def __getattribute__(self, name: str) -> Any:
        if name in object.__getattribute__(self, "faults"):
            raise StoreUnavailable(f"{name} fails")
        return object.__getattribute__(self, name)


class LeaseOnlyStore(FaultyStore):
    """Does not see who lives."""

    incarnation = lives = None  # type: ignore[assignment]


class NoHeartbeat(Heartbeat):
    """Never beats by itself: the test does."""

    def ensure(self, *, soon: bool = True) -> None:
        pass

    def recover_soon(self) -> None:
        pass


@dataclass
class Run:
    """A handler, as the engine sees it."""

    cancels: int = 0
    given_up: Reason | None = None
    is_stranded: bool = False

    def request_cancel(self) -> None:
        self.cancels += 1

    def give_up(self, reason: Reason) -> None:
        self.given_up = reason


def make_engine(store: MemoryStore, time: Time, **options: Any) -> Engine:
    settings = Settings(**({"retention": RETENTION} | options))
    engine = Engine(settings, store, sleep=time.sleep)
    engine.heartbeat = NoHeartbeat(engine)
    return engine


def accept(engine: Engine, run: Run | None = None, owner: str | None = None) -> Operation:
    start = Start(method="POST", route="/reports", owner=owner, progress=Progress(0, 10))
    return engine.accept(run or Run(), start).operation


def answer(operation: Operation, status: int = 200, body: bytes = b"done") -> Ending:
    result = Result(status, ((b"x-own", b"1"),), len(body), CHUNK_SIZE, operation.fence)
    return Ending(Responded(result), (0, body) if body else None)


def stored(engine: Engine, operation: Operation) -> Operation:
    found = engine.store.get(operation.id)
    assert found is not None
    return found


def poll(
    engine: Engine,
    id: str,
    method: str = "GET",
    resource: Resource = Resource.RESPONSE,
    owner: str | None = None,
) -> Response:
    request = Request(method, f"/operations/{id}", headers=((b"host", b"example.org"),))
    return StatusMonitor(engine).look(Poll(request, id, resource, lambda: owner)).response


def body(engine: Engine, response: Response) -> bytes:
    if isinstance(response.body, StoredBody):
        return b"".join(StatusMonitor(engine).read(response.body))
    return response.body


def keep_beating(engine: Engine, time: Time, seconds: int) -> None:
    """Let time pass as it does for a process that is awake."""
    for _ in range(seconds):
        time.now += 1
        engine.beat()


def abandon(engine: Engine, **changes: Any) -> Operation:
    """Leave an operation in the store that a process which is gone was running."""
    operation = accept(engine)
    left = replace(operation, version=2, **({"worker": "gone"} | changes))
    assert engine.store.swap(operation, left)
    engine.store.write_chunk(left.id, left.fence, 0, b"half")
    return left


class EngineTests:
    """Fixtures: an engine on a store that may fail, in time that passes on command."""

    @pytest.fixture
    def time(self, monkeypatch: pytest.MonkeyPatch) -> Time:
        time = Time()
        for module in (
            "engine",
            "running",
            "store_health",
            "process",
            "purging",
            "recovery",
            "leases",
        ):
            monkeypatch.setattr(f"raincheck.engine.{module}.time", SimpleNamespace(monotonic=time))
        both = SimpleNamespace(monotonic=time, time=time)
        monkeypatch.setattr("raincheck.engine.awake.time", both)
        return time

    @pytest.fixture
    def store(self, time: Time) -> FaultyStore:
        return FaultyStore(clock=time)

    @pytest.fixture
    def run(self) -> Run:
        return Run()

    @pytest.fixture
    def engine(self, store: FaultyStore, time: Time) -> Iterator[Engine]:
        engine = make_engine(store, time)
        yield engine
        engine.close()

    @pytest.fixture
    def lease_only(self, time: Time) -> Engine:
        return make_engine(LeaseOnlyStore(clock=time), time)
