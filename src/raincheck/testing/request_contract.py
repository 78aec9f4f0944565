"""The part of the store contract that is about requests and dedupe keys, until they are dropped."""

from __future__ import annotations

import time

import pytest

from raincheck.errors import BodyMissing, StoreError
from raincheck.http.messages import Request
from raincheck.operations.operation import REQUEST_FENCE, Operation, State
from raincheck.operations.store import Fetching, Filter, Store
from raincheck.testing.material import MIB, changed, forgotten, ids, in_threads, make_operation

BODY = [b"x", b"\x00\xff" * MIB, b""]
REQUEST = Request("POST", "/reports", headers=((b"authorization", b"Bearer"),), length=2 * MIB + 1)
DROPS = {"drop_request": True, "drop_dedupe": True}


class RequestContract:
    """What `read_request` and `holder` promise, and `create` and `swap` of what they return."""

    # --- requests --------------------------------------------------------------------------

    def test_a_request_comes_back_with_all_its_fields(self, store: Store) -> None:
        request = Request(
            method="POST",
            path="/ü/x y",
            scheme="https",
            http_version="2",
            raw_path=b"/%C3%BC/x%20y",
            query=b"a=%00&b=\xff",
            root_path="/ü",
            headers=((b"x-bytes", bytes(range(256))), (b"cookie", b"a"), (b"cookie", b"b")),
            client=("::1", 4711),
            server=("/run/app.sock", None),
            length=MIB + 1,
            chunk_size=MIB,
        )
        store.create(make_operation(), request)
        assert store.read_request("a") == request

    def test_an_operation_comes_with_its_request_in_one_look(self, store: Store) -> None:
        if not isinstance(store, Fetching):
            pytest.skip("this store is not `Fetching`")
        operation = store.create(make_operation(), REQUEST)
        assert store.fetch("a") == (operation, REQUEST)
        ended = changed(operation, state=State.CANCELLED, expires=5000.0)
        assert store.swap(operation, ended, drop_request=True)
        assert store.fetch("a") == (ended, None)
        bare = store.create(make_operation("b"))
        assert store.fetch("b") == (bare, None)
        assert store.fetch("unknown") is None
        assert store.fetch("\ud800\x00'") is None

    def test_a_requests_body_is_written_before_it(self, store: Store) -> None:
        """Its chunks have fence 0 and come before `create`, which must not lose them."""
        chunks = [bytes(range(256)), b"x" * (MIB + 1)]
        for n, chunk in enumerate(chunks):
            store.write_chunk("a", REQUEST_FENCE, n, chunk)
        store.create(make_operation(), Request("GET", "/"))
        assert list(store.read_chunks("a", REQUEST_FENCE, 0, 2)) == chunks

    def test_an_empty_request_comes_back_empty(self, store: Store) -> None:
        request = Request("GET", "/")
        store.create(make_operation(), request)
        assert store.read_request("a") == request

    def test_there_may_be_no_request(self, store: Store) -> None:
        store.create(make_operation())
        assert store.read_request("a") is None
        assert store.read_request("unknown") is None

    # --- dedupe keys ----------------------------------------------------------------------------

    def test_a_dedupe_key_leads_to_the_operation_that_holds_it(self, store: Store) -> None:
        """`create` returns that operation as it is now, not as it was created."""
        old = store.create(make_operation("a"), dedupe="key")
        now = changed(old, state=State.SUCCEEDED)
        store.swap(old, now)
        assert store.create(make_operation("b"), Request("GET", "/"), "key") == now

    def test_nothing_is_kept_of_a_duplicate(self, store: Store) -> None:
        store.create(make_operation("a"), dedupe="key")
        store.create(make_operation("b"), Request("GET", "/"), "key")
        assert store.get("b") is None
        assert store.read_request("b") is None
        assert ids(store.find(Filter())[0]) == ["a"]

    def test_other_keys_and_no_key_are_no_duplicates(self, store: Store) -> None:
        for id, dedupe in (("a", "1"), ("b", "2"), ("c", None), ("d", None), ("e", "")):
            assert store.create(make_operation(id), dedupe=dedupe).id == id

    def test_a_dedupe_key_is_held_until_the_operation_is_purged(self, store: Store) -> None:
        store.create(make_operation("a"), Request("GET", "/"), "key")
        store.discard("a")
        store.purge(1e12)
        assert store.create(make_operation("b"), dedupe="key").id == "a"

    def test_of_8_threads_with_one_key_exactly_one_creates(self, store: Store) -> None:
        kept = in_threads(8, lambda i: store.create(make_operation(f"{i}"), dedupe="key"))
        assert len(set(ids(kept))) == 1
        assert ids(store.find(Filter())[0]) == [kept[0].id]

    def test_who_holds_a_dedupe_key_can_be_asked(self, store: Store) -> None:
        """`holder` returns that operation as it is now, and a duplicate changes nothing."""
        old = _create(store)
        assert store.holder("key") == old
        assert store.swap(old, new := changed(old, owner="somebody"))
        assert store.holder("key") == new
        store.create(make_operation("b"), dedupe="key")
        assert store.holder("key") == new

    def test_a_key_that_nobody_took_has_no_holder(self, store: Store) -> None:
        """To ask for it takes it for nobody."""
        store.create(make_operation("key"))
        for _ in range(2):
            assert store.holder("key") is None
        assert store.create(make_operation("b"), dedupe="key").id == "b"

    def test_each_dedupe_key_has_its_own_holder(self, store: Store) -> None:
        keys = ["key", "KEY", "key ", "", "k", "key:", "../key", "{key}", "ключ", "key" * 1000]
        for n, key in enumerate(keys):
            store.create(make_operation(f"{n}"), dedupe=key)
            assert [store.holder(other) is None for other in keys] == [
                i > n for i in range(len(keys))
            ]
        assert [held and held.id for held in map(store.holder, keys)] == [
            f"{n}" for n in range(len(keys))
        ]

    def test_the_holder_of_a_dedupe_key_is_the_one_that_won_it(self, store: Store) -> None:
        """Whoever is told of a holder finds it, though many try to become it."""

        def work(i: int) -> Operation:
            if i < 4:
                return store.create(make_operation(f"{i}"), dedupe="key")
            deadline = time.monotonic() + 30
            while (held := store.holder("key")) is None:
                assert time.monotonic() < deadline, "nobody has taken the key"
            assert store.get(held.id) == held
            return held

        assert len(set(ids(in_threads(8, work)))) == 1

    def test_a_dedupe_key_has_no_holder_after_the_purge(self, store: Store) -> None:
        old = store.create(forgotten("a"), dedupe="key")
        store.discard("a")
        assert store.holder("key") == old
        assert store.purge(1000.0) == 1
        assert store.holder("key") is None

    # --- a request that is dropped ---------------------------------------------------------

    def test_a_swap_drops_the_request_with_its_body(self, store: Store) -> None:
        """They may hold credentials, and nobody needs them any more. The response stays."""
        old = _create(store)
        store.write_chunk("a", 1, 0, b"response")
        new = _ended(old)
        assert store.swap(old, new, drop_request=True)
        assert store.get("a") == new
        assert not _has_request(store)
        assert list(store.read_chunks("a", 1, 0, 1)) == [b"response"]

    def test_a_swap_drops_no_more_than_it_is_told(self, store: Store) -> None:
        without_request, without_key = _create(store, "a", "1"), _create(store, "b", "2")
        assert store.swap(without_request, changed(without_request), drop_request=True)
        assert store.create(make_operation("c"), dedupe="1").id == "a"
        assert store.swap(without_key, changed(without_key), drop_dedupe=True)
        assert _has_request(store, "b")

    def test_a_dropped_request_is_that_of_no_other_operation(self, store: Store) -> None:
        others = ["a.0", "a.", "a:0", "A", "../a", "aa"]
        for id in others:
            _create(store, id, f"key of {id}")
        old = _create(store)
        assert store.swap(old, _ended(old), **DROPS)
        assert [id for id in others if not _has_request(store, id)] == []

    def test_a_refused_swap_drops_nothing(self, store: Store) -> None:
        old = _create(store)
        new = changed(old, owner="first")
        assert store.swap(old, new)
        assert not store.swap(old, changed(old, owner="second"), **DROPS)
        assert _has_request(store)
        assert store.create(make_operation("b"), dedupe="key") == new

    def test_a_swap_of_what_is_gone_drops_nothing(self, store: Store) -> None:
        """The body of a request comes before its operation, and may be all that there is."""
        for n, chunk in enumerate(BODY):
            store.write_chunk("a", REQUEST_FENCE, n, chunk)
        assert not store.swap(make_operation(), changed(make_operation()), **DROPS)
        assert store.create(make_operation(), REQUEST) == make_operation()
        assert _has_request(store)

    def test_what_is_not_there_may_be_dropped(self, store: Store) -> None:
        old = store.create(make_operation())
        assert store.swap(old, new := changed(old), **DROPS)
        assert store.swap(new, _ended(new), **DROPS)
        assert store.get("a") == _ended(new)

    def test_a_repeated_swap_drops_what_is_still_there(self, store: Store) -> None:
        """As the answer may have been lost, of a swap that dropped it or of one that did not."""
        for id, first in (("a", DROPS), ("b", {})):
            old = _create(store, id, f"key of {id}")
            new = _ended(old)
            assert store.swap(old, new, **first)
            for _ in range(2):
                assert store.swap(old, new, **DROPS)
                assert store.get(id) == new
                assert not _has_request(store, id)
            other = f"next {id}"
            assert store.create(make_operation(other), dedupe=f"key of {id}").id == other

    def test_who_sees_what_was_swapped_finds_no_request(self, store: Store) -> None:
        """It goes with the swap, not soon after: there is nothing in between to be seen."""
        for n in range(20):
            old = _create(store, f"{n}", f"key {n}")
            in_threads(2, lambda i, old=old: (_end, _look_afterwards)[i](store, old))  # type: ignore[misc]

    # --- a dedupe key that is dropped ------------------------------------------------------

    def test_a_dropped_key_is_the_next_ones(self, store: Store) -> None:
        old = _create(store)
        new = _ended(old)
        assert store.swap(old, new, drop_dedupe=True)
        for id in ("b", "c"):
            assert store.create(make_operation(id), dedupe="key").id == "b"
        assert store.get("a") == new
        assert ids(store.find(Filter())[0]) == ["a", "b"]

    def test_a_dropped_key_has_no_holder_until_the_next_one(self, store: Store) -> None:
        old = _create(store)
        assert store.swap(old, new := changed(old), drop_request=True)
        assert store.holder("key") == new
        assert store.swap(new, last := _ended(new), drop_dedupe=True)
        assert store.holder("key") is None
        assert store.get("a") == last
        next_ = store.create(make_operation("b"), dedupe="key")
        assert store.holder("key") == next_

    def test_a_purge_leaves_a_dropped_key_to_the_next_one(self, store: Store) -> None:
        old = _create(store)
        assert store.swap(old, changed(forgotten("a")), drop_dedupe=True)
        next_ = store.create(make_operation("b"), dedupe="key")
        assert store.purge(1000.0) == 1
        assert store.create(make_operation("c"), dedupe="key") == next_

    def test_the_purge_of_the_next_one_frees_the_key_again(self, store: Store) -> None:
        old = _create(store)
        assert store.swap(old, _ended(old), drop_dedupe=True)
        store.create(forgotten("b"), dedupe="key")
        assert store.purge(1000.0) == 1
        assert store.create(make_operation("c"), dedupe="key").id == "c"

    def test_a_repeated_swap_leaves_a_dropped_key_to_the_next_one(self, store: Store) -> None:
        old = _create(store)
        assert store.swap(old, _ended(old), **DROPS)
        store.create(make_operation("b"), dedupe="key")
        assert store.swap(old, _ended(old), **DROPS)
        assert store.create(make_operation("c"), dedupe="key").id == "b"

    def test_creating_again_who_has_dropped_its_key_is_refused(self, store: Store) -> None:
        """An answer may be lost for long: the key is not taken again by who is over."""
        old = _create(store)
        assert store.swap(old, _ended(old), drop_dedupe=True)
        with pytest.raises(StoreError):
            store.create(old, REQUEST, "key")
        assert store.create(make_operation("b"), dedupe="key").id == "b"

    def test_of_8_threads_with_a_dropped_key_exactly_one_creates(self, store: Store) -> None:
        old = _create(store)
        assert store.swap(old, _ended(old), drop_dedupe=True)
        kept = in_threads(8, lambda i: store.create(make_operation(f"{i}"), dedupe="key"))
        assert len(set(ids(kept))) == 1
        assert sorted(ids(store.find(Filter())[0])) == sorted(["a", kept[0].id])

    def test_a_key_changes_hands_again_and_again(self, store: Store) -> None:
        """Several processes run what they have created, and find what others have."""

        def run(i: int) -> int:
            ran = 0
            for n in range(15):
                mine = make_operation(f"{i} {n}")
                held = store.create(mine, REQUEST, "key")
                if held == mine:
                    ran += 1
                    assert store.swap(held, _ended(held), **DROPS)
            return ran

        ran = in_threads(4, run)
        found = store.find(Filter(), limit=100)[0]
        assert len(found) == sum(ran) > 0
        assert {operation.state for operation in found} == {State.SUCCEEDED}
        assert store.create(make_operation("last"), dedupe="key").id == "last"


def _create(store: Store, id: str = "a", dedupe: str = "key") -> Operation:
    for n, chunk in enumerate(BODY):
        store.write_chunk(id, REQUEST_FENCE, n, chunk)
    return store.create(make_operation(id), REQUEST, dedupe)


def _ended(operation: Operation) -> Operation:
    return changed(operation, state=State.SUCCEEDED, expires=9e9)


def _has_request(store: Store, id: str = "a") -> bool:
    """Tell whether all of a request is there; it fails if only some of it is."""
    found = store.read_request(id) is not None
    for n, chunk in enumerate(BODY):
        if found:
            assert list(store.read_chunks(id, REQUEST_FENCE, n, n + 1)) == [chunk]
        else:
            with pytest.raises(BodyMissing):
                list(store.read_chunks(id, REQUEST_FENCE, n, n + 1))
    return found


def _end(store: Store, running: Operation) -> None:
    assert store.swap(running, _ended(running), **DROPS)


def _look_afterwards(store: Store, running: Operation) -> None:
    deadline = time.monotonic() + 30
    while store.get(running.id) == running:
        assert time.monotonic() < deadline, "the operation did not end"
    assert not _has_request(store, running.id)
    key = f"key {running.id}"
    assert store.create(make_operation(f"next {key}"), dedupe=key).id == f"next {key}"
