"""The part of the store contract that is about bodies: chunks, and what deletes them."""

from __future__ import annotations

import hashlib
import tracemalloc
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raincheck.contracts import Filter, Store
from raincheck.core import CHUNK_SIZE
from raincheck.errors import BodyMissing
from raincheck.messages import Request
from tests.stores.material import (
    HOUR,
    MIB,
    Clock,
    forgotten,
    ids,
    in_threads,
    make_operation,
)

LARGE = b"\x00\xff" * MIB
small_and_large = pytest.mark.parametrize("data", [b"x", LARGE], ids=("small", "large"))


# The fixtures of a test are shared by its examples, and its class by its subclasses, on purpose.
with_examples = settings(
    deadline=None,
    database=None,
    max_examples=50,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)


class BodyContract:
    """Subclasses supply the fixture `store`, which takes its time from the fixture `clock`."""

    # --- chunks ----------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, 64 * 1024 - 1, 64 * 1024, MIB - 1, MIB, MIB + 1])
    def test_a_chunk_of_any_size_comes_back(self, store: Store, size: int) -> None:
        data = (bytes(range(256)) * (size // 256 + 1))[:size]
        store.write_chunk("a", 1, 0, data)
        assert list(store.read_chunks("a", 1, 0, 1)) == [data]

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
        count, written, read = 100_000_000 // CHUNK_SIZE, hashlib.sha256(), hashlib.sha256()
        for n in range(count):
            chunk = n.to_bytes(8, "big") * (CHUNK_SIZE // 8)
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
        assert peak < 4 * MIB

    # --- discard ---------------------------------------------------------------------------

    @small_and_large
    def test_discarding_leaves_the_record_alone(self, store: Store, data: bytes) -> None:
        store.create(make_operation("a"), Request("POST", "/", body=(data,)))
        for fence in (1, 2):
            store.write_chunk("a", fence, 0, data)
        for _ in range(2):
            store.discard("a")
            for fence in (1, 2):
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

    # --- purge -----------------------------------------------------------------------------

    def test_only_what_is_forgotten_and_expired_is_purged(self, store: Store) -> None:
        store.create(forgotten("due", expires=99.0))
        store.create(forgotten("just due", expires=100.0))
        store.create(forgotten("not yet", expires=100.1))
        store.create(make_operation("kept", expires=1.0))
        store.create(make_operation("running"))
        assert store.purge(100.0) == 2
        assert sorted(ids(store.find(Filter())[0])) == ["kept", "not yet", "running"]
        assert store.purge(100.0) == 0

    def test_a_purge_deletes_no_more_than_its_limit(self, store: Store) -> None:
        for n in range(5):
            store.create(forgotten(f"{n}"))
        assert [store.purge(1000.0, limit=2) for _ in range(4)] == [2, 2, 1, 0]

    @small_and_large
    def test_a_purge_leaves_nothing(self, store: Store, data: bytes) -> None:
        store.create(forgotten("a"), Request("POST", "/", body=(data,)), "key")
        store.write_chunk("a", 1, 0, data)
        assert store.purge(1000.0) == 1
        assert store.get("a") is None
        assert store.read_request("a") is None
        with pytest.raises(BodyMissing):
            list(store.read_chunks("a", 1, 0, 1))
        assert store.create(make_operation("b"), dedupe="key").id == "b"

    @small_and_large
    def test_leftovers_are_purged_once_they_are_old(
        self, store: Store, clock: Clock, data: bytes
    ) -> None:
        store.write_chunk("nobody's", 1, 0, data)
        clock.now += HOUR / 2
        store.purge(clock.now)
        assert next(store.read_chunks("nobody's", 1, 0, 1)) == data
        clock.now += 2 * HOUR
        assert store.purge(clock.now) == 0
        with pytest.raises(BodyMissing):
            next(store.read_chunks("nobody's", 1, 0, 1))

    @small_and_large
    def test_an_old_body_is_kept_as_long_as_its_record(
        self, store: Store, clock: Clock, data: bytes
    ) -> None:
        store.create(make_operation("a"))
        for n in range(2):
            store.write_chunk("a", 1, n, data)
        clock.now += 1000 * HOUR
        store.purge(clock.now)
        assert list(islice(store.read_chunks("a", 1, 0, 2), 2)) == [data, data]
