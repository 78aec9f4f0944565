"""Engines to test: on stores that fail, hang or come back, in time that a test lets pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from time import monotonic, sleep
from types import SimpleNamespace
from typing import IO, Any

import pytest

from raincheck.config.options import Settings
from raincheck.engine import errands
from raincheck.engine.awake import Deadline
from raincheck.engine.engine import CHUNK_SIZE, Engine
from raincheck.engine.heartbeat import Heartbeat
from raincheck.engine.outbox import Ending
from raincheck.engine.response_writer import ResponseWriter
from raincheck.engine.start import Captured, Start
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.http.messages import Request, Response, StoredBody
from raincheck.monitor.endpoint import StatusMonitor
from raincheck.monitor.links import Resource
from raincheck.monitor.poll import Poll
from raincheck.operations.operation import Operation, Progress, Reason, Result
from raincheck.operations.transitions import Responded
from raincheck.stores.memory import MemoryStore

AWAY = frozenset({"create", "get", "swap", "write_chunk", "find", "purge", "discard", "now"})
CHUNK = b"x" * CHUNK_SIZE
CHUNKS = [bytes([n]) * CHUNK_SIZE for n in range(5)]
WHOLE = b"".join(CHUNKS) + b"and the rest"
DEFECTS = [StoreError("never"), OSError(5, "Input/output error"), TypeError("a defect")]
REQUEST = Request("GET", "/reports", headers=((b"authorization", b"secret"),))
BODY = b"x" * 700_000
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
            "durations",
        ):
            # What another test has left may still beat, and sleeps for real.
            own = SimpleNamespace(monotonic=time, sleep=sleep)
            monkeypatch.setattr(f"raincheck.engine.{module}.time", own)
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


@dataclass
class Rerunner:
    """Remembers what it was given to run."""

    is_ready: bool = True
    needs_loop: bool = False
    runs: list[tuple[Operation, Request, bytes]] = field(default_factory=list)
    error: RuntimeError | None = None

    def begin(self) -> None: ...

    def drain(self) -> None: ...

    def rerun(self, operation: Operation, request: Request, body: IO[bytes]) -> Run:
        if self.error is not None:
            raise self.error
        with body:
            self.runs.append((operation, request, body.read()))
        return Run()


def kept_back(engine: Engine, store: FaultyStore) -> tuple[Operation, Operation]:
    """Return two operations that have ended when the store took no chunk."""
    both = accept(engine), accept(engine)
    store.faults = frozenset({"write_chunk"})
    for operation in both:
        engine.finish(operation, answer(operation))
    store.faults = frozenset()
    return both


def second(store: FaultyStore, time: Time, **options: Any) -> tuple[Engine, Rerunner]:
    """Return the engine of another process, and what it runs again."""
    engine, rerunner = make_engine(store, time, **options), Rerunner()
    engine.recovery.rerunner = rerunner
    return engine, rerunner


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


def respond(engine: Engine, operation: Operation, content: bytes = WHOLE) -> None:
    """Record a response as a gateway does."""
    writer = ResponseWriter(engine, operation)
    writer.start(200, ())
    for start in range(0, len(content), 100_000):
        if writer.feed(content[start : start + 100_000]):
            writer.flush()
    writer.complete()


class Outages(EngineTests):
    """An engine whose store can go away and come back."""

    @staticmethod
    def leave(store: FaultyStore) -> None:
        store.faults = AWAY

    @staticmethod
    def come_back(store: FaultyStore) -> None:
        store.faults = frozenset()


class Hang:
    """Has one method of a store not come back until it may, and nobody wait for it.

    Attributes:
        created: What was recorded in the end.
    """

    def __init__(self, store: FaultyStore) -> None:
        self.over = threading.Event()
        self.created: list[Operation] = []
        self._store = store
        self._is_hanging = False
        vars(store)["glance"] = lambda operation_id: None  # who hangs has nothing at hand

    def at(self, name: str, *, is_done: bool = False) -> None:
        """Have it hang: before it does anything, or when all is done but its answer."""
        method = getattr(self._store, name)
        self._is_hanging = True

        def wait() -> None:
            assert not self._is_hanging or self.over.wait(30)

        def hang(*arguments: Any, **more: Any) -> Any:
            wait() if not is_done else None
            self.created += [a for a in arguments[:1] if name == "create"]
            answer = method(*arguments, **more)
            wait() if is_done else None
            return answer

        setattr(self._store, name, hang)

    def end(self) -> None:
        self._is_hanging = False
        self.over.set()

    def deadline(self, seconds: float) -> Any:
        """Be over soon while it hangs; this test's clock stands still."""
        return Deadline(0.05 if self._is_hanging else 30.0, monotonic)


def wait_until(condition: Callable[[], object]) -> None:
    """Return as soon as it holds: a thread has to come to its end."""
    pause, end = threading.Event(), monotonic() + 30
    while not condition():
        assert monotonic() < end
        pause.wait(0.01)


def fail_for(store: FaultyStore, name: str, operation: Operation, error: Exception) -> None:
    """Have a method of a store raise an error for one operation only."""
    original = getattr(store, name)

    def work(first: Any, *arguments: Any, **drops: bool) -> Any:
        if getattr(first, "id", first) == operation.id:
            raise error
        return original(first, *arguments, **drops)

    setattr(store, name, work)


def lose_one_answer(store: FaultyStore, name: str) -> None:
    """Have a method of a store fail once, although it does its work."""
    original = getattr(store, name)

    def work(*arguments: Any, **drops: bool) -> None:
        original(*arguments, **drops)
        setattr(store, name, original)
        raise StoreUnavailable("the answer is lost")

    setattr(store, name, work)


def look(engine: Engine, time: Time, seconds: float) -> None:
    """Let a process look every few seconds for what nobody runs."""
    for _ in range(int(seconds // 5) + 1):
        engine.recover()
        time.now += 5


def _chunks(store: FaultyStore, operation: Operation) -> list[tuple[int, int]]:
    shelf = store._shelves.get(operation.id)
    return list(shelf.chunks) if shelf is not None else []


class Hanging(Outages):
    """An engine whose store can hang."""

    @pytest.fixture
    def hang(self, store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
        hang = Hang(store)
        monkeypatch.setattr(errands, "Deadline", hang.deadline)
        yield hang
        hang.over.set()
