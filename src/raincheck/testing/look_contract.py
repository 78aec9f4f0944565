"""The part of the store contract that is about looks: what is at hand, and many in one look."""

from __future__ import annotations

import pytest

from raincheck.errors import BodyMissing
from raincheck.operations.operation import State
from raincheck.operations.store import Gathering, Glancing, Store
from raincheck.testing.material import changed, in_threads, make_operation, run_in_fork


class LookContract:
    """What a store promises that is `Glancing` or `Gathering`."""

    @pytest.fixture
    def glancing(self, store: Store) -> Glancing:
        if not isinstance(store, Glancing):
            pytest.skip("this store is not `Glancing`")
        return store

    @pytest.fixture
    def gathering(self, store: Store) -> Gathering:
        if not isinstance(store, Gathering):
            pytest.skip("this store is not `Gathering`")
        return store

    def test_a_glance_shows_what_is_kept_or_nothing(self, store: Store, glancing: Glancing) -> None:
        operation = make_operation()
        assert glancing.glance("a") is None
        store.create(operation)
        for state in (State.CANCELLING, State.CANCELLED):
            assert glancing.glance("a") in (operation, None)
            operation, old = changed(operation, state=state), operation
            assert store.swap(old, operation)
        assert glancing.glance("a") in (operation, None)
        assert glancing.glance("b") is None
        assert glancing.glance("\ud800\x00'") is None

    def test_a_glance_shows_what_others_have_changed(
        self, store: Store, glancing: Glancing, shared: bool
    ) -> None:
        if not shared:
            pytest.skip("no other process sees this store")
        operation = store.create(make_operation())
        assert glancing.glance("a") in (operation, None)
        cancelled = changed(operation, state=State.CANCELLING)
        assert run_in_fork(lambda: store.swap(operation, cancelled))
        assert glancing.glance("a") in (cancelled, None)

    def test_a_glance_at_a_chunk_shows_that_or_nothing(
        self, store: Store, glancing: Glancing
    ) -> None:
        operation = store.create(make_operation(fence=1))
        for n, chunk in enumerate((b"small", b"x" * 300_000)):
            assert glanced(glancing, n) is None
            store.write_chunk(operation.id, 1, n, chunk)
            assert glanced(glancing, n) in (chunk, None)
        store.discard("a")
        assert glanced(glancing, 0) is None

    def test_glances_of_many_threads_disturb_nobody(self, store: Store, glancing: Glancing) -> None:
        operation = store.create(make_operation())

        def look(_: int) -> bool:
            return all(glancing.glance("a") in (operation, None) for _ in range(50))

        assert in_threads(8, look) == [True] * 8
        assert store.get("a") == operation

    def test_many_are_seen_in_one_look(self, store: Store, gathering: Gathering) -> None:
        kept = {name: store.create(make_operation(name)) for name in ("a", "b", "c")}
        assert gathering.get_all(["c", "a", "nobody", "\ud800\x00'"]) in (
            {name: kept[name] for name in ("a", "c")},
            {},  # what can't be seen so is looked for alone
        )
        assert gathering.get_all([]) == {}
        assert store.swap(kept["a"], changed(kept["a"], state=State.CANCELLING))
        seen = gathering.get_all({"a"})
        assert seen == ({"a": store.get("a")} if seen else {})


def glanced(glancing: Glancing, n: int) -> bytes | None:
    """Return what a glance shows of a chunk; None, too, where it says that there is none."""
    try:
        return glancing.glance_at_chunk("a", 1, n)
    except BodyMissing:
        return None
