"""The part of the store contract that is about `purge`: what it deletes, and what it spares."""

from __future__ import annotations

import pytest

from raincheck.errors import BodyMissing
from raincheck.http.messages import Request
from raincheck.operations.store import Filter, Store
from raincheck.testing.material import (
    HOUR,
    MIB,
    Clock,
    changed,
    forgotten,
    ids,
    in_threads,
    make_operation,
    settable,
)

small_and_large = pytest.mark.parametrize("data", [b"x", b"\x00\xff" * MIB], ids=("small", "large"))


class PurgeContract:
    """What `purge` promises."""

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
        """Record, request, chunks and dedupe key go together."""
        store.create(forgotten("a"), Request("POST", "/"), "key")
        store.write_chunk("a", 1, 0, data)
        assert store.purge(1000.0) == 1
        assert store.get("a") is None
        assert store.read_request("a") is None
        with pytest.raises(BodyMissing):
            list(store.read_chunks("a", 1, 0, 1))
        assert store.create(make_operation("b"), dedupe="key").id == "b"

    def test_what_is_purged_can_be_created_anew(self, store: Store) -> None:
        store.create(forgotten("a"), Request("POST", "/"), "key")
        store.write_chunk("a", 1, 0, b"old")
        store.purge(1000.0)
        assert store.create(make_operation("a"), dedupe="key") == make_operation("a")
        assert store.read_request("a") is None
        store.write_chunk("a", 1, 0, b"new")
        assert list(store.read_chunks("a", 1, 0, 1)) == [b"new"]

    def test_purges_at_the_same_time_count_each_operation_once(self, store: Store) -> None:
        for n in range(40):
            store.create(forgotten(f"{n}"))
        assert sum(in_threads(4, lambda _: store.purge(1000.0))) == 40
        assert store.find(Filter()) == ([], None)

    def test_a_purge_and_a_swap_do_not_both_win(self, store: Store) -> None:
        """An operation that is no longer due when it is deleted was not to be deleted."""
        due = [store.create(forgotten(f"{n}")) for n in range(60)]

        def work(i: int) -> list[str]:
            if i == 0:
                return [str(store.purge(1000.0, limit=3)) for _ in range(25)]
            return [o.id for o in reversed(due) if store.swap(o, changed(o, expires=9e9))]

        _, kept = in_threads(2, work)
        assert sorted(ids(store.find(Filter())[0])) == sorted(kept)

    def test_a_purge_disturbs_nobody_who_writes(self, store: Store) -> None:
        def work(i: int) -> None:
            for n in range(30):
                if i == 0:
                    store.create(forgotten(f"due {n}"))
                    store.purge(1000.0)
                else:
                    store.write_chunk(f"{i} {n}", 1, 0, b"%d" % n)
                    store.create(make_operation(f"{i} {n}"))

        in_threads(3, work)
        store.purge(1000.0)
        found = store.find(Filter(), limit=100)[0]
        assert len(found) == 60
        for operation in found:
            assert list(store.read_chunks(operation.id, 1, 0, 1)) == [
                operation.id.split()[1].encode()
            ]

    @small_and_large
    def test_leftovers_are_purged_once_they_are_old(
        self, store: Store, clock: Clock | None, data: bytes
    ) -> None:
        """Chunks without a record: of an upload that just begins, or of a process that died."""
        time = settable(clock)
        store.write_chunk("nobody's", 1, 0, data)
        time.now += HOUR / 2
        store.purge(time.now)
        assert next(iter(store.read_chunks("nobody's", 1, 0, 1))) == data
        time.now += 2 * HOUR
        assert store.purge(time.now) == 0, "leftovers are no operations, and do not count"
        with pytest.raises(BodyMissing):
            list(store.read_chunks("nobody's", 1, 0, 1))

    @small_and_large
    def test_an_old_body_is_kept_as_long_as_its_record(
        self, store: Store, clock: Clock | None, data: bytes
    ) -> None:
        time = settable(clock)
        store.create(make_operation("a"))
        for n in range(2):
            store.write_chunk("a", 1, n, data)
        time.now += 1000 * HOUR
        store.purge(time.now)
        assert list(store.read_chunks("a", 1, 0, 2)) == [data, data]
