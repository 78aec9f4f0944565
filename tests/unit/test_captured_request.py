"""Captured requests come back as they came, lie sealed where there is a key, and go in time."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from raincheck.contracts import REQUEST_FENCE, Store
from raincheck.engine.captured_request import CapturedRequests
from raincheck.engine.encryption import PLAIN, Sealed, Sealing
from raincheck.engine.engine import Engine
from raincheck.engine.outbox import Ending
from raincheck.engine.start import Captured
from raincheck.errors import BodyMissing, StoreError, StoreUnavailable, WrongKey
from raincheck.handler import Marking
from raincheck.http.messages import Request
from raincheck.operations.operation import Reason
from raincheck.operations.transitions import Ended
from raincheck.stores.memory import MemoryStore
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing.material import MIB, make_operation
from tests.unit.engines import EngineTests, FaultyStore, _chunks, answer, start, stored

SIZE = 10  # bytes of a chunk
OLD_KEY, NEW_KEY = (Fernet.generate_key().decode() for _ in range(2))
SEALED = Sealed(OLD_KEY)
ASKED = Request(
    method="POST",
    path="/of-a-path",
    query=b"of-a-query",
    headers=((b"authorization", b"of-a-token"), (b"x-bytes", b"\x00\xff")),
    client=("::1", 4711),
    server=("/run/app.sock", None),
)
both = pytest.mark.parametrize("sealing", [PLAIN, SEALED], ids=["plain", "sealed"])


def keep(
    store: Store, body: Iterable[bytes] = (), sealing: Sealing = PLAIN, id: str = "a"
) -> CapturedRequests:
    """Keep a request and create its operation."""
    requests = CapturedRequests(store, SIZE, sealing)
    store.create(make_operation(id), requests.keep(id, Captured(ASKED, body)))
    return requests


def read(requests: CapturedRequests, id: str = "a") -> tuple[Request, bytes]:
    found = requests.read(make_operation(id))
    assert found is not None
    with closing(found[1]) as body:
        return found[0], body.read()


def chunks(store: Store, id: str, count: int) -> list[bytes]:
    return list(store.read_chunks(id, REQUEST_FENCE, 0, count))


def stored_request(store: Store, id: str) -> Request:
    request = store.read_request(id)
    assert request is not None
    return request


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


# --- what was captured comes back --------------------------------------------------------------


@both
@given(pieces=st.lists(st.binary(max_size=3 * SIZE + 5)))
def test_a_body_in_any_pieces_comes_back_whole(sealing: Sealing, pieces: list[bytes]) -> None:
    request, found = read(keep(MemoryStore(), iter(pieces), sealing))
    assert found == b"".join(pieces)
    assert request == replace(ASKED, length=len(found), chunk_size=SIZE)


@given(pieces=st.lists(st.binary(max_size=3 * SIZE + 5)))
def test_all_chunks_but_the_last_have_one_size(pieces: list[bytes]) -> None:
    store, body = MemoryStore(), b"".join(pieces)
    keep(store, pieces)
    expected = [body[start : start + SIZE] for start in range(0, len(body), SIZE)]
    assert chunks(store, "a", len(expected)) == expected
    with pytest.raises(BodyMissing):
        chunks(store, "a", len(expected) + 1)


def test_the_body_can_be_read_more_than_once(store: MemoryStore) -> None:
    found = keep(store, [b"twice"]).read(make_operation("a"))
    assert found is not None
    with closing(found[1]) as body:
        assert (body.seekable(), body.read(2), body.read()) == (True, b"tw", b"ice")
        body.seek(0)
        assert body.read() == b"twice"


def test_where_there_is_no_request_there_is_none(store: MemoryStore) -> None:
    store.create(make_operation("a"))
    assert CapturedRequests(store, SIZE).read(make_operation("a")) is None
    assert CapturedRequests(store, SIZE).read(make_operation("unknown")) is None


@both
def test_a_large_body_is_never_whole_in_memory(tmp_path: Path, sealing: Sealing) -> None:
    pieces = (bytes(64 * 1024) for _ in range(16 * 16))
    with closing(SQLiteStore(tmp_path / "operations.db")) as store:
        requests = CapturedRequests(store, 256 * 1024, sealing)
        tracemalloc.start()
        try:
            store.create(make_operation("a"), requests.keep("a", Captured(ASKED, pieces)))
            found = requests.read(make_operation("a"))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert found is not None
        with closing(found[1]) as body:
            assert body.seek(0, 2) == 16 * MIB
    assert peak < 5 * MIB


# --- what is not all there ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"length": 26}, {"length": 24}, {"length": 31}, {"chunk_size": 0}]
)
def test_a_body_of_another_length_than_was_kept_is_not_given(
    store: MemoryStore, changes: dict[str, Any]
) -> None:
    requests = keep(store, [b"x" * 25])
    stored = replace(stored_request(store, "a"), **changes)
    store.create(make_operation("a"), stored)
    with pytest.raises(BodyMissing):
        read(requests)


def test_a_body_whose_chunks_are_gone_is_missing_and_its_file_is_closed(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, opened = keep(store, [b"x" * 25]), []
    original = tempfile.SpooledTemporaryFile

    def spooled(size: int) -> Any:
        opened.append(original(size))
        return opened[0]

    monkeypatch.setattr("raincheck.engine.captured_request.IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", spooled)
    del store._shelves["a"].chunks[REQUEST_FENCE, 2]
    with pytest.raises(BodyMissing):
        requests.read(make_operation("a"))
    assert opened[0].closed


def test_where_there_is_no_room_for_a_file_the_body_may_be_read_later(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = keep(store, [b"x" * (MIB + 1)])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StoreUnavailable, match="can't be read into a file"):
        requests.read(make_operation("a"))
    monkeypatch.undo()
    assert len(read(requests)[1]) == MIB + 1


# --- sealed ------------------------------------------------------------------------------------


def test_a_sealed_request_shows_nothing_of_the_original_but_its_size(store: MemoryStore) -> None:
    keep(store, [b"of-a-body" * 3], SEALED)
    stored = stored_request(store, "a")
    assert replace(stored, headers=()) == Request("", "", length=27, chunk_size=SIZE)
    assert [name for name, _ in stored.headers] == [b"raincheck-sealed"]
    everything = repr(stored).encode() + b"".join(chunks(store, "a", 3))
    assert b"of-a" not in everything
    assert b"POST" not in everything


def test_a_request_from_before_there_was_a_key_can_be_read(store: MemoryStore) -> None:
    keep(store, [b"before"])
    assert read(CapturedRequests(store, SIZE, SEALED))[1] == b"before"


def test_a_request_sealed_with_an_older_key_can_be_read_and_new_ones_have_the_newer(
    store: MemoryStore,
) -> None:
    keep(store, [b"old"], SEALED)
    requests = keep(store, [b"new"], Sealed([NEW_KEY, OLD_KEY]), id="b")
    assert (read(requests)[1], read(requests, "b")[1]) == (b"old", b"new")
    assert read(CapturedRequests(store, SIZE, Sealed(NEW_KEY)), "b")[1] == b"new"


@pytest.mark.parametrize("sealing", [PLAIN, Sealed(NEW_KEY)], ids=["none", "another"])
def test_without_the_key_the_error_says_what_to_do(store: MemoryStore, sealing: Sealing) -> None:
    name = "0123456789abcdef"
    keep(store, [b"body"], SEALED, id=name)
    with pytest.raises(WrongKey) as caught:
        CapturedRequests(store, SIZE, sealing).read(make_operation(name))
    assert "set `encryption_key` to the one it was sealed with" in str(caught.value)
    assert "012345…" in str(caught.value)
    assert name not in str(caught.value)


def test_a_client_cant_make_its_request_look_sealed(store: MemoryStore) -> None:
    forged = replace(ASKED, headers=((b"raincheck-sealed", b"x"),))
    requests = CapturedRequests(store, SIZE)
    store.create(make_operation("a"), requests.keep("a", Captured(forged)))
    assert read(requests)[0].headers == forged.headers


# --- by somebody who can write to the store ----------------------------------------------------


@pytest.fixture
def two(store: MemoryStore) -> CapturedRequests:
    """Keep two sealed requests."""
    keep(store, [b"0" * SIZE, b"1" * SIZE], SEALED)
    return keep(store, [b"2" * SIZE, b"3" * SIZE], SEALED, id="b")


def test_a_sealed_request_cant_be_put_in_the_place_of_another(
    store: MemoryStore, two: CapturedRequests
) -> None:
    store.create(make_operation("b"), stored_request(store, "a"))
    with pytest.raises(StoreError, match="is another one"):
        two.read(make_operation("b"))


@pytest.mark.parametrize(("source", "target"), [(("a", 0), ("b", 0)), (("b", 1), ("b", 0))])
def test_a_sealed_chunk_cant_be_put_in_the_place_of_another(
    store: MemoryStore, two: CapturedRequests, source: tuple[str, int], target: tuple[str, int]
) -> None:
    chunk = chunks(store, source[0], 2)[source[1]]
    store.write_chunk(target[0], REQUEST_FENCE, target[1], chunk)
    with pytest.raises(StoreError, match="is another one"):
        two.read(make_operation("b"))


def test_a_sealed_request_is_no_chunk(store: MemoryStore, two: CapturedRequests) -> None:
    store.write_chunk("b", REQUEST_FENCE, 0, stored_request(store, "b").headers[0][1])
    with pytest.raises(StoreError, match="is another one"):
        two.read(make_operation("b"))


def test_a_sealed_body_cant_be_cut(store: MemoryStore, two: CapturedRequests) -> None:
    store.create(make_operation("b"), replace(stored_request(store, "b"), length=SIZE))
    assert len(read(two, "b")[1]) == 2 * SIZE
    del store._shelves["b"].chunks[REQUEST_FENCE, 1]
    with pytest.raises(BodyMissing):
        two.read(make_operation("b"))


def test_a_sealed_chunk_that_was_changed_is_refused(
    store: MemoryStore, two: CapturedRequests
) -> None:
    chunk = chunks(store, "b", 1)[0]
    store.write_chunk("b", REQUEST_FENCE, 0, chunk[:-2] + b"AA")
    with pytest.raises(WrongKey):
        two.read(make_operation("b"))


def test_a_plain_chunk_in_a_sealed_body_is_refused(
    store: MemoryStore, two: CapturedRequests
) -> None:
    store.write_chunk("b", REQUEST_FENCE, 0, b"x" * SIZE)
    with pytest.raises(WrongKey):
        two.read(make_operation("b"))


class TestKeeping(EngineTests):
    """It is kept where it may be run again, and no longer."""

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
        monkeypatch.setattr("raincheck.handler.marking._known_markings", set())
        by_method = [start(engine, method) for method in ("POST", "PATCH", "PUT", "DELETE")]
        for operation in (*by_method, start(engine, marking=Marking(retry=False))):
            assert store.read_request(operation.id) is None
            assert not stored(engine, operation).captured

    def test_nor_where_its_handler_has_not_said_that_it_may(
        self, engine: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "raincheck.handler.marking._known_markings", {Marking(retry=True)}
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
