"""The part of the store contract that is about the end of a response: its last chunk and `swap`."""

from __future__ import annotations

import pytest

from raincheck.errors import BodyMissing
from raincheck.http.messages import Request
from raincheck.operations.operation import REQUEST_FENCE, Operation, Result, State
from raincheck.operations.store import Concluding, Store
from raincheck.testing.material import MIB, changed, in_threads, make_operation

LARGE = b"\x00\xff" * MIB


def _ended(operation: Operation, data: bytes) -> Operation:
    result = Result(200, ((b"a", b"b"),), len(data), chunk_size=len(data), fence=operation.fence)
    return changed(operation, state=State.SUCCEEDED, result=result, lease=None, expires=5000.0)


class ConcludeContract:
    """What a store promises that is `Concluding`."""

    @pytest.fixture
    def concluding(self, store: Store) -> Concluding:
        if not isinstance(store, Concluding):
            pytest.skip("this store is not `Concluding`")
        return store

    @pytest.mark.parametrize("data", [b"x", LARGE], ids=("small", "large"))
    def test_an_end_and_its_last_chunk_are_seen_together(
        self, store: Store, concluding: Concluding, data: bytes
    ) -> None:
        operation = store.create(make_operation(fence=1, worker="w", lease=2000.0))
        store.write_chunk("a", 1, 0, b"first")
        ended = _ended(operation, data)
        assert concluding.conclude(operation, ended, 1, data)
        assert store.get("a") == ended
        assert list(store.read_chunks("a", 1, 0, 2)) == [b"first", data]

    def test_an_end_whose_answer_was_lost_may_be_repeated(
        self, store: Store, concluding: Concluding
    ) -> None:
        operation = store.create(make_operation(fence=1))
        for _ in range(2):
            assert concluding.conclude(operation, _ended(operation, b"x"), 0, b"x")
        assert list(store.read_chunks("a", 1, 0, 1)) == [b"x"]

    def test_an_end_that_comes_too_late_changes_nothing(
        self, store: Store, concluding: Concluding
    ) -> None:
        operation = store.create(make_operation(fence=1))
        cancelled = changed(operation, state=State.CANCELLED, expires=5000.0)
        store.write_chunk("a", 1, 0, b"kept")
        assert store.swap(operation, cancelled)
        assert not concluding.conclude(operation, _ended(operation, b"late"), 0, b"late")
        assert store.get("a") == cancelled
        assert list(store.read_chunks("a", 1, 0, 1)) == [b"kept"]

    def test_an_end_may_drop_the_request_and_the_dedupe_key(
        self, store: Store, concluding: Concluding
    ) -> None:
        store.write_chunk("a", REQUEST_FENCE, 0, b"body")
        operation = store.create(make_operation(fence=1), Request("POST", "/"), "key")
        drops = {"drop_request": True, "drop_dedupe": True}
        assert concluding.conclude(operation, _ended(operation, b"x"), 0, b"x", **drops)
        assert store.read_request("a") is None
        assert store.holder("key") is None
        assert list(store.read_chunks("a", 1, 0, 1)) == [b"x"]
        with pytest.raises(BodyMissing):
            list(store.read_chunks("a", REQUEST_FENCE, 0, 1))

    def test_of_several_ends_one_wins(self, store: Store, concluding: Concluding) -> None:
        operation = store.create(make_operation(fence=1))
        ends = [_ended(operation, b"%d" % n) for n in range(6)]

        def end(n: int) -> bool:
            new = changed(operation, state=ends[n].state, result=ends[n].result, route=f"/{n}")
            return concluding.conclude(operation, new, 0, b"%d" % n)

        won = in_threads(6, end)
        assert sum(won) == 1
        stored = store.get("a")
        assert stored is not None
        assert stored.route == f"/{won.index(True)}"

    def test_many_ends_at_once_are_all_kept(self, store: Store, concluding: Concluding) -> None:
        def run(n: int) -> bool:
            operation = store.create(make_operation(f"{n}", fence=1))
            data = b"%d" % n
            return concluding.conclude(operation, _ended(operation, data), 0, data)

        assert in_threads(16, run) == [True] * 16
        for n in range(16):
            assert list(store.read_chunks(f"{n}", 1, 0, 1)) == [b"%d" % n]
