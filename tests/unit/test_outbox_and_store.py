"""The outbox of an engine: responses that come while the store is away, fails or hangs."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from raincheck.engine import outbox as outbox
from raincheck.engine.engine import CHUNK_SIZE, Engine
from raincheck.engine.response_writer import ResponseWriter
from raincheck.engine.start import Start
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.operations.operation import Operation, Reason
from tests.unit.engines import (
    CHUNK,
    CHUNKS,
    DEFECTS,
    WHOLE,
    EngineTests,
    FaultyStore,
    Hang,
    Hanging,
    Outages,
    Run,
    Time,
    accept,
    body,
    fail_for,
    kept_back,
    poll,
    respond,
    stored,
)


def open_files() -> list[str]:
    """Name what this process has open, other than pipes and sockets."""
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    return sorted(name for name in names if name.startswith("/") and "/proc/" not in name)


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


class TestWhatIsNeverTaken(EngineTests):
    """A store that refuses for ever, or raises what no store should."""

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    @pytest.mark.parametrize("method", ["swap", "write_chunk"])
    def test_a_response_that_is_never_taken_is_lost_and_holds_up_no_other(
        self, engine: Engine, store: FaultyStore, error: Exception, method: str
    ) -> None:
        refused, fine = kept_back(engine, store)
        swap = store.swap

        def refuse(old: Operation, new: Operation, **drops: bool) -> bool:
            if old.id == refused.id and new.result is not None:
                raise error
            return swap(old, new, **drops)

        if method == "swap":
            store.swap = refuse  # type: ignore[method-assign]
        else:
            fail_for(store, "write_chunk", refused, error)
        engine.beat()
        assert stored(engine, refused).reason is Reason.RESPONSE_LOST
        assert body(engine, poll(engine, fine.id)) == b"done"
        assert not engine.is_busy

    @pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
    def test_a_chunk_that_meets_a_defect_ends_its_operation_and_not_its_handler(
        self, engine: Engine, store: FaultyStore, error: Exception
    ) -> None:
        operation = accept(engine)
        fail_for(store, "write_chunk", operation, error)
        writer = ResponseWriter(engine, operation)
        writer.start(200, ())
        writer.feed(CHUNK)
        writer.flush()
        writer.complete()
        assert stored(engine, operation).reason is Reason.RESPONSE_LOST


class TestAStoreThatHangs(Hanging):
    """A response is not held up by it."""

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
