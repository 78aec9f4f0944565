"""The part of the store contract that is about records: create, get and swap."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given

from raincheck.errors import StoreError
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, State
from raincheck.operations.records import decode, encode
from raincheck.operations.store import Filter, Store
from raincheck.testing.material import changed, ids, in_threads, make_operation
from raincheck.testing.strategies import any_text, records, with_examples


class RecordContract:
    """What `create`, `get` and `swap` promise."""

    # --- create and get --------------------------------------------------------------------

    def test_a_created_operation_is_found_by_its_id(self, store: Store) -> None:
        operation = make_operation()
        assert store.create(operation) == operation
        assert store.get("a") == operation

    def test_an_unknown_id_is_none(self, store: Store) -> None:
        store.create(make_operation("a"))
        assert store.get("b") is None

    @with_examples
    @given(any_text)
    @example("")
    @example("\x00")
    @example("a\x00")
    @example("\ud800")
    @example("a' OR 1=1 --")
    @example("../" * 50)
    @example("*")
    @example("x" * 5000)
    def test_any_string_may_be_asked_for(self, store: Store, wild: str) -> None:
        """`get` is asked for whatever a client puts into a URL: the answer is None, no error."""
        if store.get("known id") is None:
            store.create(make_operation("known id"))
        assert (store.get(wild) is None) is (wild != "known id")

    @with_examples
    @given(records)
    def test_a_record_comes_back_as_it_was(self, store: Store, record: Operation) -> None:
        """All fields are kept exactly; `raincheck.contracts` has JSON for them, with `encode`."""
        assert decode(encode(record)) == record
        if store.get(record.id) is None:
            store.create(record)
            assert store.get(record.id) == record

    @with_examples
    @given(any_text)
    @example("\udc80")
    @example("\x00")
    @example("x" * 5000)
    def test_an_owner_of_any_text_is_kept_or_refused(self, store: Store, owner: str) -> None:
        """A text that the store can't keep is a `StoreError`, and then there is no operation."""
        operation = make_operation(f"{time.monotonic_ns()}", owner=owner)
        try:
            store.create(operation)
        except StoreError:
            assert store.get(operation.id) is None
        else:
            assert operation in store.find(Filter(owner=owner), limit=1000)[0]

    def test_an_id_can_be_taken_only_once(self, store: Store) -> None:
        store.create(make_operation(owner="first"), Request("GET", "/first"))
        with pytest.raises(StoreError):
            store.create(make_operation(owner="second"), Request("GET", "/second"))
        kept, request = store.get("a"), store.read_request("a")
        assert kept is not None
        assert kept.owner == "first"
        assert request is not None
        assert request.path == "/first"

    def test_of_8_threads_with_one_id_exactly_one_creates(self, store: Store) -> None:
        def create(i: int) -> str | None:
            try:
                return store.create(make_operation(owner=f"{i}")).owner
            except StoreError:
                return None

        owners = [owner for owner in in_threads(8, create) if owner is not None]
        assert len(owners) == 1, "the others must get a StoreError"
        assert store.get("a") == make_operation(owner=owners[0])

    def test_an_error_names_no_whole_id(self, store: Store) -> None:
        """Who knows an id may read the response, so it is in no log: `errors.abbreviate` it."""
        store.create(make_operation("secret" * 5))
        with pytest.raises(StoreError) as caught:
            store.create(make_operation("secret" * 5, owner="another"))
        assert "secret" * 5 not in str(caught.value)

    def test_a_state_of_a_newer_raincheck_is_kept(self, store: Store) -> None:
        """During a deploy two versions share the store: what one can't read is no error."""
        document = json.loads(encode(make_operation("newer", created=1.0)))
        newer = decode(json.dumps(document | {"v": 2, "state": "paused", "colour": "blue"}))
        store.create(newer)
        store.create(make_operation("a"))
        assert store.get("newer") == newer
        assert ids(store.find(Filter())[0]) == ["newer", "a"]
        assert ids(store.find(Filter(states=frozenset(State)))[0]) == ["a"]

    # --- swap ------------------------------------------------------------------------------

    def test_a_swap_replaces_the_version_it_knows(self, store: Store) -> None:
        old = store.create(make_operation())
        new = changed(old, state=State.SUCCEEDED)
        assert store.swap(old, new)
        assert store.get("a") == new

    def test_only_the_version_decides_whether_a_swap_succeeds(self, store: Store) -> None:
        store.create(make_operation(owner="ann", version=7))
        new = make_operation(version=8)
        assert store.swap(make_operation(owner="bob", version=7), new)
        assert store.get("a") == new

    def test_a_swap_of_another_version_changes_nothing(self, store: Store) -> None:
        old = store.create(make_operation())
        new = changed(old, owner="first")
        assert store.swap(old, new)
        assert not store.swap(old, changed(old, owner="second"))
        assert not store.swap(make_operation(version=9), make_operation(version=10))
        assert store.get("a") == new

    def test_a_swap_of_what_is_gone_makes_nothing(self, store: Store) -> None:
        old = make_operation()
        assert not store.swap(old, changed(old))
        assert store.get("a") is None

    def test_a_swap_leaves_request_and_body_alone(self, store: Store) -> None:
        old = store.create(make_operation(), Request("GET", "/"))
        store.write_chunk("a", 1, 0, b"body")
        assert store.swap(old, changed(old, state=State.SUCCEEDED))
        assert store.read_request("a") == Request("GET", "/")
        assert list(store.read_chunks("a", 1, 0, 1)) == [b"body"]

    def test_of_16_threads_that_swap_exactly_one_wins(self, store: Store) -> None:
        for n in range(20):
            old = store.create(make_operation(f"{n}"))
            new = [changed(old, worker=f"{i}") for i in range(16)]
            won = in_threads(16, lambda i, old=old, new=new: store.swap(old, new[i]))  # type: ignore[misc]
            assert won.count(True) == 1
            assert store.get(old.id) == new[won.index(True)]

    # --- what is done twice, as an answer may have been lost -------------------------------

    def test_creating_the_same_again_succeeds_as_the_answer_may_have_been_lost(
        self, store: Store
    ) -> None:
        for _ in range(2):
            assert store.create(make_operation(), Request("GET", "/"), "key") == make_operation()
        assert ids(store.find(Filter())[0]) == ["a"]
        assert store.read_request("a") == Request("GET", "/")
        assert store.create(make_operation("b"), dedupe="key").id == "a"

    def test_creating_again_what_has_changed_since_is_refused(self, store: Store) -> None:
        """The id is taken by then: an old `create` must not bring an old record back."""
        old = store.create(make_operation())
        new = changed(old, state=State.SUCCEEDED)
        assert store.swap(old, new)
        with pytest.raises(StoreError):
            store.create(old)
        assert store.get("a") == new

    def test_swapping_the_same_again_succeeds_as_the_answer_may_have_been_lost(
        self, store: Store
    ) -> None:
        """True if the store holds exactly `new` already, although `old` is gone."""
        old = store.create(make_operation())
        new = changed(old, state=State.SUCCEEDED)
        assert store.swap(old, new)
        assert store.swap(old, new)
        assert store.get("a") == new

    def test_a_swap_repeated_after_another_one_is_refused(self, store: Store) -> None:
        old = store.create(make_operation())
        new = changed(old, owner="second")
        newest = changed(new, owner="third")
        assert store.swap(old, new)
        assert store.swap(new, newest)
        assert not store.swap(old, new)
        assert store.get("a") == newest
