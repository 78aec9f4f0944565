"""The engine while its store is away: what is kept and said, and what is made good after it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from raincheck.config.policy import Candidate
from raincheck.engine import errands
from raincheck.engine import outbox as outbox
from raincheck.engine.awake import Deadline
from raincheck.engine.engine import CHUNK_SIZE, Engine
from raincheck.engine.outbox import Ending
from raincheck.engine.process import LEASE
from raincheck.engine.recovery import STEADY
from raincheck.engine.refusals import Admitted, admit
from raincheck.engine.response_writer import ResponseWriter
from raincheck.engine.start import Key, Start
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.monitor.links import Resource
from raincheck.operations.operation import Operation, Reason, Result, State
from raincheck.operations.transitions import Ended, Responded
from tests.unit.engines import (
    EngineTests,
    FaultyStore,
    LeaseOnlyStore,
    Run,
    Time,
    accept,
    answer,
    body,
    make_engine,
    poll,
    stored,
)

AWAY = frozenset({"create", "get", "swap", "write_chunk", "find", "purge", "discard", "now"})
CHUNKS = [bytes([n]) * CHUNK_SIZE for n in range(5)]
WHOLE = b"".join(CHUNKS) + b"and the rest"


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


class TestWhatIsKept(Outages):
    """A response that comes while the store is away."""

    def test_a_response_of_many_chunks_is_written_when_the_store_is_back(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        self.leave(store)
        respond(engine, operation)
        assert poll(engine, operation.id).status == 503
        assert engine.is_busy
        self.come_back(store)
        assert poll(engine, operation.id).status == 202
        engine.beat()
        assert body(engine, poll(engine, operation.id)) == WHOLE
        assert not engine.is_busy

    @pytest.mark.parametrize("written", range(1, 6))
    def test_a_store_may_leave_in_the_middle_of_a_response(
        self, engine: Engine, store: FaultyStore, written: int
    ) -> None:
        operation = accept(engine)
        writer = ResponseWriter(engine, operation)
        writer.start(200, ())
        for n, chunk in enumerate(CHUNKS):
            if n == written:
                self.leave(store)
            writer.feed(chunk)
            writer.flush()
        self.leave(store)
        writer.complete()
        self.come_back(store)
        engine.beat()
        assert body(engine, poll(engine, operation.id)) == b"".join(CHUNKS)

    def test_chunks_are_handed_over_while_the_handler_goes_on(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        writer = ResponseWriter(engine, operation)
        writer.start(200, ())
        for n, chunk in enumerate(CHUNKS):
            (self.come_back if n % 2 else self.leave)(store)
            writer.feed(chunk)
            writer.flush()
            if n % 2:
                engine.beat()
                assert list(store.read_chunks(operation.id, 1, 0, n + 1)) == CHUNKS[: n + 1]
        self.come_back(store)
        writer.complete()
        engine.beat()
        assert body(engine, poll(engine, operation.id)) == b"".join(CHUNKS)

    def test_a_store_that_leaves_again_loses_nothing(
        self, engine: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        operation = accept(engine)
        self.leave(store)
        respond(engine, operation)
        self.come_back(store)
        write, calls = store.write_chunk, []

        def write_some(*arguments: Any) -> None:
            calls.append(arguments[2])
            if len(calls) % 2:
                raise StoreUnavailable("gone again")
            write(*arguments)

        monkeypatch.setattr(store, "write_chunk", write_some)
        for _ in range(6):
            with pytest.raises(StoreUnavailable):
                engine.beat()
        engine.beat()
        assert calls == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        assert body(engine, poll(engine, operation.id)) == WHOLE

    def test_what_memory_may_not_hold_goes_to_a_file_that_goes_again(
        self, engine: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox, "MEMORY", 2 * CHUNK_SIZE)
        operations = [accept(engine) for _ in range(3)]
        before = open_files()
        self.leave(store)
        for n, operation in enumerate(operations):
            respond(engine, operation, WHOLE + b"%d" % n)
        assert len(open_files()) == len(before) + 1
        self.come_back(store)
        engine.beat()
        for n, operation in enumerate(operations):
            assert body(engine, poll(engine, operation.id)) == WHOLE + b"%d" % n
        assert open_files() == before

    def test_a_response_for_which_there_is_no_room_is_lost_and_says_so(
        self, engine: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_file(**options: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(outbox, "MEMORY", 2 * CHUNK_SIZE)
        monkeypatch.setattr("tempfile.TemporaryFile", no_file)
        lost, kept = accept(engine), accept(engine)
        self.leave(store)
        respond(engine, lost)
        respond(engine, kept, b"small")
        self.come_back(store)
        engine.beat()
        assert stored(engine, lost).reason is Reason.RESPONSE_LOST
        assert json.loads(body(engine, poll(engine, lost.id)))["code"] == "response_lost"
        assert body(engine, poll(engine, kept.id)) == b"small"

    def test_a_chunk_that_the_store_will_never_take_costs_its_operation_only(
        self, engine: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refused, fine = accept(engine), accept(engine)
        self.leave(store)
        respond(engine, refused)
        respond(engine, fine)
        self.come_back(store)
        write = store.write_chunk

        def refuse(operation_id: str, *arguments: Any) -> None:
            if operation_id == refused.id:
                raise StoreError("too large")
            write(operation_id, *arguments)

        monkeypatch.setattr(store, "write_chunk", refuse)
        engine.beat()
        assert stored(engine, refused).reason is Reason.RESPONSE_LOST
        assert body(engine, poll(engine, fine.id)) == WHOLE

    def test_much_is_handed_over_in_turns(
        self, engine: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch, time: Time
    ) -> None:
        operation = accept(engine)
        self.leave(store)
        respond(engine, operation)
        self.come_back(store)
        write, turns = store.write_chunk, 0

        def write_slowly(*arguments: Any) -> None:
            time.now += outbox.TURN / 2
            write(*arguments)

        monkeypatch.setattr("raincheck.engine.outbox.time", SimpleNamespace(monotonic=time))
        monkeypatch.setattr(store, "write_chunk", write_slowly)
        while engine.is_busy:
            engine.beat()
            turns += 1
        assert turns == 4  # six chunks by two, and the ending
        assert body(engine, poll(engine, operation.id)) == WHOLE

    def test_closing_waits_for_the_store(self, engine: Engine, store: FaultyStore) -> None:
        operation = accept(engine)
        self.leave(store)
        respond(engine, operation)
        naps: list[float] = []

        def nap(seconds: float) -> None:
            naps.append(seconds)
            if len(naps) == 3:
                self.come_back(store)

        engine._sleep = nap
        engine.close()
        assert body(engine, poll(engine, operation.id)) == WHOLE


class TestWhoLives(Outages):
    """Leases that ran out while nobody could renew them."""

    def test_an_outage_ends_no_operation_of_those_who_live(self, time: Time) -> None:
        store = LeaseOnlyStore(clock=time)
        here, there = make_engine(store, time), make_engine(store, time)
        operation = accept(here)
        there.recover()
        time.now += LEASE / 2
        self.leave(store)
        for engine in (here, there):
            with pytest.raises(StoreUnavailable):
                engine.beat() if engine is here else engine.recover()
        time.now += 2 * LEASE
        self.come_back(store)
        assert there.recover() == 0
        assert poll(there, operation.id).status == 202
        here.beat()
        time.now += LEASE / 2
        assert there.recover() == 0
        here.finish(operation, answer(operation))
        assert poll(there, operation.id).status == 200

    def test_an_end_that_takes_its_time_to_be_recorded_is_not_taken_for_lost(
        self, time: Time
    ) -> None:
        store = LeaseOnlyStore(clock=time)
        here, there = make_engine(store, time), make_engine(store, time)
        operation = accept(here)
        self.leave(store)
        here.finish(operation, answer(operation))
        time.now += 2 * LEASE
        store.faults = frozenset({"write_chunk"})  # it is back, but takes no bodies yet
        for _ in range(10):
            with pytest.raises(StoreUnavailable):
                here.beat()
            assert there.recover() == 0
            time.now += LEASE / 3
        self.come_back(store)
        here.beat()
        assert body(there, poll(there, operation.id)) == b"done"

    def test_after_an_outage_those_who_are_gone_are_still_found(self, time: Time) -> None:
        store = LeaseOnlyStore(clock=time)
        gone, there = make_engine(store, time), make_engine(store, time)
        operation = accept(gone)
        self.leave(store)
        with pytest.raises(StoreUnavailable):
            there.recover()
        time.now += 2 * LEASE
        self.come_back(store)
        assert there.recover() == 0
        time.now += STEADY
        assert there.recover() == 1
        assert stored(there, operation).reason is Reason.INTERRUPTED

    def test_a_process_that_has_just_begun_ends_nobody_elses_operation(self, time: Time) -> None:
        store = LeaseOnlyStore(clock=time)
        operation = accept(make_engine(store, time))
        time.now += 2 * LEASE
        fresh = make_engine(store, time)
        assert poll(fresh, operation.id).status == 202
        assert fresh.recover() == 0
        time.now += STEADY
        assert poll(fresh, operation.id).status == 500


class TestAnEmptyStore(Outages):
    """A server that took over and knows nothing."""

    @staticmethod
    def wipe(store: FaultyStore) -> None:
        store._operations.clear()
        store._shelves.clear()

    def test_an_operation_that_ends_is_recorded_again(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        self.wipe(store)
        engine.finish(operation, answer(operation, body=b"all of it"))
        assert body(engine, poll(engine, operation.id)) == b"all of it"

    def test_a_beat_records_an_operation_again(
        self, lease_only: Engine, run: Run, time: Time
    ) -> None:
        assert isinstance(lease_only.store, FaultyStore)
        operation = accept(lease_only, run)
        self.wipe(lease_only.store)
        time.now += LEASE / 2
        lease_only.beat()
        assert poll(lease_only, operation.id).status == 202
        assert stored(lease_only, operation).lease == time.now + LEASE
        assert run.cancels == 0
        respond(lease_only, operation)
        assert body(lease_only, poll(lease_only, operation.id)) == WHOLE

    def test_what_was_lost_in_an_outage_is_recorded_again_at_the_first_beat_after_it(
        self, lease_only: Engine, time: Time
    ) -> None:
        assert isinstance(lease_only.store, FaultyStore)
        operation = accept(lease_only)
        self.leave(lease_only.store)
        time.now += 1
        with pytest.raises(StoreUnavailable):
            lease_only.recover()
        self.wipe(lease_only.store)
        self.come_back(lease_only.store)
        lease_only.beat()
        assert poll(lease_only, operation.id).status == 202

    @pytest.mark.parametrize("beats", [0, 1])
    def test_a_response_of_which_a_part_is_gone_is_lost_and_says_so(
        self, lease_only: Engine, time: Time, beats: int
    ) -> None:
        assert isinstance(lease_only.store, FaultyStore)
        operation = accept(lease_only)
        lease_only.write(operation, 0, CHUNKS[0])
        self.wipe(lease_only.store)
        time.now += LEASE / 2
        for _ in range(beats):
            lease_only.beat()
        lease_only.write(operation, 1, CHUNKS[1])
        result = Result(200, (), 2 * CHUNK_SIZE, CHUNK_SIZE, operation.fence)
        lease_only.finish(operation, Ending(Responded(result)))
        assert stored(lease_only, operation).reason is Reason.RESPONSE_LOST
        with pytest.raises(StoreError):
            list(lease_only.store.read_chunks(operation.id, operation.fence, 1, 2))

    def test_an_operation_that_ends_without_a_response_is_recorded_again(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        self.wipe(store)
        engine.finish(operation, Ending(Ended(Reason.EXCEPTION)))
        assert stored(engine, operation).state is State.FAILED


class TestWhatTheStoreForgot(Outages):
    """Polls of operations that run in this process."""

    @staticmethod
    def wipe(store: FaultyStore) -> None:
        TestAnEmptyStore.wipe(store)

    @pytest.mark.parametrize("resource", [Resource.RESPONSE, Resource.STATUS])
    def test_what_runs_here_is_never_unknown(
        self, engine: Engine, store: FaultyStore, resource: Resource
    ) -> None:
        operation = accept(engine)
        self.wipe(store)
        expected = 202 if resource is Resource.RESPONSE else 200
        assert poll(engine, operation.id, resource=resource).status == expected
        assert stored(engine, operation).state is State.RUNNING, "and others know it again"

    def test_nor_if_it_can_not_be_recorded_again(self, engine: Engine, store: FaultyStore) -> None:
        operation = accept(engine)
        self.wipe(store)
        store.faults = frozenset({"create"})
        assert poll(engine, operation.id).status == 202

    def test_nor_if_it_has_ended_and_that_waits_for_the_store(
        self, engine: Engine, store: FaultyStore
    ) -> None:
        operation = accept(engine)
        self.leave(store)
        respond(engine, operation)
        self.come_back(store)
        self.wipe(store)
        assert poll(engine, operation.id).status == 202
        engine.beat()
        assert body(engine, poll(engine, operation.id)) == WHOLE

    def test_it_can_be_cancelled(self, engine: Engine, store: FaultyStore, run: Run) -> None:
        operation = accept(engine, run)
        self.wipe(store)
        assert poll(engine, operation.id, "DELETE").status == 202
        assert run.cancels == 1

    def test_to_all_but_its_owner_it_is_unknown(self, engine: Engine, store: FaultyStore) -> None:
        operation = accept(engine, owner="anne")
        self.wipe(store)
        unknown = poll(engine, "0" * 32)
        for stranger in ("bob", None):
            assert poll(engine, operation.id, owner=stranger) == unknown
        assert poll(engine, operation.id, owner="anne").status == 202

    def test_to_another_application_it_is_unknown(self, store: FaultyStore, time: Time) -> None:
        engine = make_engine(store, time, application="one")
        operation = accept(engine)
        self.wipe(store)
        engine.application.__dict__["name"] = "another"
        assert poll(engine, operation.id).status == 404

    def test_what_has_ended_before_is_unknown(self, engine: Engine, store: FaultyStore) -> None:
        operation = accept(engine)
        respond(engine, operation)
        self.wipe(store)
        assert poll(engine, operation.id).status == 404


class TestAStoreThatHangs(Outages):
    """What does not come back in time."""

    @pytest.fixture
    def hang(self, store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
        hang = Hang(store)
        monkeypatch.setattr(errands, "Deadline", hang.deadline)
        yield hang
        hang.over.set()

    def test_what_is_recorded_when_its_request_has_gone_on_is_ended_and_lets_its_key_go(
        self, engine: Engine, store: FaultyStore, hang: Hang
    ) -> None:
        key = Key("k", "fingerprint")
        hang.at("create")
        with pytest.raises(StoreUnavailable):
            engine.accept(Run(), Start(method="POST", route="/", key=key))
        assert not engine.health.takes_operations
        hang.end()
        wait_until(lambda: hang.created)
        [lost] = hang.created
        wait_until(lambda: (found := engine.store.get(lost.id)) and found.is_terminal)
        assert stored(engine, lost).reason is Reason.INTERRUPTED
        assert not len(engine.running)
        again = engine.accept(Run(), Start(method="POST", route="/", key=key))
        assert again.is_new

    def test_who_comes_again_is_not_given_what_is_about_to_be_taken_back(
        self, engine: Engine, store: FaultyStore, hang: Hang, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start, create = Start(method="POST", route="/", key=Key("k", "fingerprint")), store.create
        hang.at("create", is_done=True)
        with pytest.raises(StoreUnavailable):
            engine.accept(Run(), start)
        [late] = hang.created
        monkeypatch.setattr(store, "create", create)  # it answers others again
        engine.health.writes._refuse_for(0)
        engine.recover()  # what is still under way is not forgotten
        with pytest.raises(StoreUnavailable, match="taken back"):
            engine.accept(Run(), start)
        hang.end()
        wait_until(lambda: stored(engine, late).is_terminal)
        assert engine.accept(Run(), start).is_new

    def test_what_nobody_waits_for_any_more_is_not_recorded(
        self, engine: Engine, store: FaultyStore, hang: Hang
    ) -> None:
        hang.at("now")
        with pytest.raises(StoreUnavailable):
            engine.accept(Run(), Start(method="POST", route="/"))
        [unanswered] = engine._process.unanswered
        hang.end()
        wait_until(lambda: engine.health.writes._may_begin())
        assert engine.store.get(unanswered) is None
        assert not len(engine.running)

    def test_a_response_for_which_its_client_waits_goes_on_and_is_recorded_later(
        self, engine: Engine, hang: Hang
    ) -> None:
        operation = engine.accept(
            Run(), Start(method="POST", route="/", is_attended=True)
        ).operation
        hang.at("write_chunk")
        respond(engine, operation)
        assert engine.is_busy
        hang.end()
        engine.beat()
        assert body(engine, poll(engine, operation.id)) == WHOLE

    def test_a_poll_is_told_so_and_may_come_again(self, engine: Engine, hang: Hang) -> None:
        operation = accept(engine)
        hang.at("get")
        assert poll(engine, operation.id).status == 503
        hang.end()
        wait_until(lambda: poll(engine, operation.id).status == 202)

    def test_a_poll_is_answered_though_nobody_can_note_that_it_came(
        self, store: FaultyStore, time: Time, hang: Hang
    ) -> None:
        engine = make_engine(store, time, abandon_after=60.0)
        operation = accept(engine)
        time.now += 30.0
        hang.at("swap")
        assert poll(engine, operation.id).status == 202


def may_begin(engine: Engine, candidate: Candidate) -> bool:
    """Tell whether a handler may be called."""
    return isinstance(admit(candidate, engine, lambda: None), Admitted)


class TestRequestsThatStaySynchronous(Outages):
    """What may begin while nothing can be accepted."""

    AT_ONCE = Candidate(0)

    def test_a_few_go_on_and_the_next_is_refused_before_it_begins(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine = make_engine(store, time, limits={"synchronous": 2})
        self.leave(store)
        with pytest.raises(StoreUnavailable):
            accept(engine)
        with engine.health.stay():
            assert may_begin(engine, self.AT_ONCE)
            with engine.health.stay():
                assert not may_begin(engine, self.AT_ONCE)
                assert may_begin(engine, Candidate(2.0))
            assert may_begin(engine, self.AT_ONCE)

    def test_a_store_that_takes_operations_again_is_noticed(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine = make_engine(store, time, limits={"synchronous": 0})
        assert may_begin(engine, self.AT_ONCE)
        self.leave(store)
        with pytest.raises(StoreUnavailable):
            accept(engine)
        self.come_back(store)
        engine.recover()  # that it can be read says nothing
        assert not may_begin(engine, self.AT_ONCE)
        accept(engine)
        assert may_begin(engine, self.AT_ONCE)

    def test_now_and_then_one_request_finds_out(self, store: FaultyStore, time: Time) -> None:
        engine = make_engine(store, time, limits={"synchronous": 0})
        self.leave(store)
        for _ in range(3):
            assert may_begin(engine, self.AT_ONCE)
            with pytest.raises(StoreUnavailable):
                accept(engine)
            assert not may_begin(engine, self.AT_ONCE)
            time.now += 6


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


def open_files() -> list[str]:
    """Name what this process has open, other than pipes and sockets."""
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    return sorted(name for name in names if name.startswith("/") and "/proc/" not in name)
