"""The part of the store contract that is about bodies: chunks and `discard`."""

from __future__ import annotations

import hashlib
import threading
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.errors import BodyMissing
from raincheck.http.messages import Request
from raincheck.operations.operation import REQUEST_FENCE, Operation, State
from raincheck.operations.store import Store
from raincheck.testing.material import MIB, changed, in_threads, make_operation
from raincheck.testing.strategies import with_examples

LARGE = b"\x00\xff" * MIB
overtaken = pytest.mark.parametrize(
    "changes",
    [{"state": State.FAILED}, {"state": State.ACCEPTED}, {"fence": 2}],
    ids=("ended", "released", "claimed by another"),
)
small_and_large = pytest.mark.parametrize("data", [b"x", LARGE], ids=("small", "large"))


def chunk_size(store: Store) -> int:
    """Return the size of chunks that raincheck writes, in bytes."""
    return int(getattr(store, "chunk_size", 256 * 1024))


class BodyContract:
    """What `write_chunk`, `read_chunks` and `discard` promise."""

    # --- chunks ----------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, 64 * 1024 - 1, 64 * 1024, MIB - 1, MIB, MIB + 1])
    def test_a_chunk_of_any_size_comes_back(self, store: Store, size: int) -> None:
        data = (bytes(range(256)) * (size // 256 + 1))[:size]
        store.write_chunk("a", 1, 0, data)
        assert list(store.read_chunks("a", 1, 0, 1)) == [data]

    def test_a_chunk_of_the_size_it_prefers_comes_back(self, store: Store) -> None:
        """`chunk_size` is an attribute that a store may have; 256 KiB where it has none."""
        size = chunk_size(store)
        assert size > 0
        for n in range(2):
            store.write_chunk("a", 1, n, bytes([n]) * size)
        assert list(store.read_chunks("a", 1, 0, 2)) == [b"\x00" * size, b"\x01" * size]

    @with_examples
    @given(st.lists(st.binary(max_size=200), max_size=5), st.integers(1, 2**60))
    def test_any_bytes_come_back_in_order(
        self, store: Store, chunks: list[bytes], fence: int
    ) -> None:
        for n, chunk in reversed(list(enumerate(chunks))):
            store.write_chunk("a", fence, n, chunk)
        assert list(store.read_chunks("a", fence, 0, len(chunks))) == chunks

    @pytest.mark.parametrize("first", [b"small", LARGE], ids=("small", "large"))
    @pytest.mark.parametrize("second", [b"", b"x", LARGE[1:]], ids=("empty", "small", "large"))
    def test_a_chunk_written_again_is_replaced(
        self, store: Store, first: bytes, second: bytes
    ) -> None:
        store.write_chunk("a", 1, 0, first)
        store.write_chunk("a", 1, 1, b"next")
        store.write_chunk("a", 1, 0, second)
        assert list(store.read_chunks("a", 1, 0, 2)) == [second, b"next"]

    @small_and_large
    def test_bodies_of_other_fences_and_operations_do_not_mix(
        self, store: Store, data: bytes
    ) -> None:
        for id, fence in (("a", 1), ("a", 2), ("b", 1), ("../a", 1), ("a.1", 1), ("A", 1)):
            store.write_chunk(id, fence, 0, f"{id} {fence}".encode() + data)
        for id, fence in (("a", 1), ("a", 2), ("b", 1), ("../a", 1), ("a.1", 1), ("A", 1)):
            assert next(store.read_chunks(id, fence, 0, 1)) == f"{id} {fence}".encode() + data

    def test_a_part_of_a_body_can_be_read(self, store: Store) -> None:
        for n in range(5):
            store.write_chunk("a", 1, n, b"%d" % n)
        assert list(store.read_chunks("a", 1, 1, 4)) == [b"1", b"2", b"3"]
        assert list(store.read_chunks("a", 1, 2, 2)) == []

    @pytest.mark.parametrize(
        ("id", "fence", "start", "stop"),
        [
            ("b", 1, 0, 1),
            ("a", 2, 0, 1),
            ("a", 1, 0, 4),
            ("a", 1, 1, 2),
            ("a", 1, 3, 4),
        ],
    )
    def test_a_missing_chunk_is_an_error(
        self, store: Store, id: str, fence: int, start: int, stop: int
    ) -> None:
        store.write_chunk("a", 1, 0, b"0")
        store.write_chunk("a", 1, 2, b"2")
        with pytest.raises(BodyMissing):
            list(store.read_chunks(id, fence, start, stop))

    def test_chunks_are_read_one_by_one(self, store: Store) -> None:
        store.write_chunk("a", 1, 0, b"0")
        chunks = store.read_chunks("a", 1, 0, 2)
        assert next(chunks) == b"0"
        store.write_chunk("a", 1, 1, b"written later")
        assert next(chunks) == b"written later"

    @small_and_large
    def test_a_body_deleted_while_it_is_read_is_an_error(self, store: Store, data: bytes) -> None:
        for n in range(3):
            store.write_chunk("a", 1, n, data)
        chunks = store.read_chunks("a", 1, 0, 3)
        assert next(chunks) == data
        store.discard("a")
        with pytest.raises(BodyMissing):
            list(chunks)

    def test_threads_may_write_one_body_together(self, store: Store) -> None:
        def write(i: int) -> None:
            for n in range(i, 80, 8):
                store.write_chunk("a", 1, n, bytes([n]) * 100_000)

        in_threads(8, write)
        for n, chunk in enumerate(store.read_chunks("a", 1, 0, 80)):
            assert chunk == bytes([n]) * 100_000

    def test_a_body_of_100_mb_is_read_in_little_memory(self, store: Store) -> None:
        """At most a few chunks are in memory, or `read_chunks` is no generator at heart."""
        size = chunk_size(store)
        count, written, read = 100_000_000 // size, hashlib.sha256(), hashlib.sha256()
        for n in range(count):
            chunk = n.to_bytes(8, "big") * (size // 8)
            written.update(chunk)
            store.write_chunk("a", 1, n, chunk)
        del chunk
        tracemalloc.start()
        try:
            for data in store.read_chunks("a", 1, 0, count):
                read.update(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert read.digest() == written.digest()
        assert peak < 16 * size, f"{peak} bytes were in memory, of chunks of {size}"

    def test_who_reads_slowly_keeps_nobody_waiting(self, store: Store) -> None:
        """Between two chunks, nothing is open or locked: a client may take hours for each."""
        old = store.create(make_operation())
        for n in range(2):
            store.write_chunk("a", 1, n, LARGE)
        chunks = store.read_chunks("a", 1, 0, 2)
        assert next(chunks) == LARGE

        def use() -> None:
            assert store.swap(old, changed(old, owner="ann"))
            store.write_chunk("b", 1, 0, LARGE)
            store.purge(0.0)
            store.close()

        user = threading.Thread(target=use, daemon=True)
        user.start()
        user.join(15)
        assert not user.is_alive(), "a body that is half read blocks swap, write_chunk, or purge"
        assert next(chunks) == LARGE

    def test_who_sees_the_end_sees_the_whole_body(self, store: Store) -> None:
        """What `write_chunk` wrote before a `swap` is there for all who see what it wrote."""
        for n in range(20):
            old = store.create(make_operation(f"{n}"))
            read = in_threads(2, lambda i, old=old: (_finish, _follow)[i](store, old))  # type: ignore[misc]
            assert read[1] == [b"0", b"1", b"2"]

    # --- who was overtaken -----------------------------------------------------------------

    @overtaken
    @small_and_large
    def test_a_writer_that_has_lost_its_fence_leaves_nothing_behind(
        self, store: Store, data: bytes, changes: dict[str, Any]
    ) -> None:
        running = store.create(make_operation("a", fence=1))
        store.write_chunk("a", 1, 0, data)
        assert list(store.read_chunks("a", 1, 0, 1)) == [data]
        assert store.swap(running, changed(running, **changes))
        for n in range(2):  # before the discard, and after it
            store.write_chunk("a", 1, 1, data)
            with pytest.raises(BodyMissing):
                list(store.read_chunks("a", 1, 1, 2))
            assert n or list(store.read_chunks("a", 1, 0, 1)) == [data]
            store.discard("a")
        store.write_chunk("a", 2, 0, b"of the next claim")
        assert list(store.read_chunks("a", 2, 0, 1)) == [b"of the next claim"]

    def test_a_writer_that_was_overtaken_replaces_nothing(self, store: Store) -> None:
        running = store.create(make_operation("a", fence=1))
        store.write_chunk("a", 1, 0, LARGE)
        assert store.swap(running, changed(running, state=State.SUCCEEDED))
        for data in (b"late", LARGE[1:]):
            store.write_chunk("a", 1, 0, data)
            assert list(store.read_chunks("a", 1, 0, 1)) == [LARGE]

    def test_of_a_writer_that_is_overtaken_at_any_moment_nothing_stays(self, store: Store) -> None:
        for n in range(20):
            running = store.create(make_operation(f"{n}", fence=1))
            in_threads(2, lambda i, it=running: (_end_and_discard, _write_on)[i](store, it))  # type: ignore[misc]
            for chunk in range(5):
                with pytest.raises(BodyMissing):
                    list(store.read_chunks(f"{n}", 1, chunk, chunk + 1))

    # --- discard ---------------------------------------------------------------------------

    @small_and_large
    def test_discarding_leaves_the_record_alone(self, store: Store, data: bytes) -> None:
        store.write_chunk("a", REQUEST_FENCE, 0, data)
        store.create(make_operation("a"), Request("POST", "/"))
        for fence in (1, 2):
            store.write_chunk("a", fence, 0, data)
        for _ in range(2):
            store.discard("a")
            for fence in (REQUEST_FENCE, 1, 2):
                with pytest.raises(BodyMissing):
                    list(store.read_chunks("a", fence, 0, 1))
            assert store.read_request("a") is None
        assert store.get("a") == make_operation("a")

    def test_discarding_spares_other_operations(self, store: Store) -> None:
        for id in ("a", "b"):
            store.create(make_operation(id), Request("GET", f"/{id}"))
            store.write_chunk(id, 1, 0, LARGE)
        store.discard("a")
        store.discard("unknown")
        assert store.read_request("b") == Request("GET", "/b")
        assert list(store.read_chunks("b", 1, 0, 1)) == [LARGE]

    def test_a_discarded_body_can_be_written_anew(self, store: Store) -> None:
        for data in (LARGE, LARGE[1:]):
            store.discard("a")
            store.write_chunk("a", 1, 0, data)
            assert list(store.read_chunks("a", 1, 0, 1)) == [data]


def _end_and_discard(store: Store, running: Operation) -> None:
    assert store.swap(running, changed(running, state=State.FAILED))
    store.discard(running.id)


def _write_on(store: Store, running: Operation) -> None:
    for n in range(5):
        store.write_chunk(running.id, 1, n, b"x" * 300_000 if n % 2 else b"x")


def _finish(store: Store, running: Operation) -> None:
    for n in range(3):
        store.write_chunk(running.id, 1, n, b"%d" % n)
    assert store.swap(running, changed(running, state=State.SUCCEEDED))


def _follow(store: Store, running: Operation) -> list[bytes]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if store.get(running.id) != running:
            return list(store.read_chunks(running.id, 1, 0, 3))
    raise TimeoutError("the operation did not end")
