"""The store in memory keeps the contract."""

from __future__ import annotations

import pytest

from raincheck.contracts import Liveness, Store
from raincheck.stores.memory import MemoryStore
from raincheck.testing import StoreContract
from raincheck.testing.material import Clock, make_operation, run_in_fork


class TestMemoryStore(StoreContract):
    """The contract, and what only this store promises."""

    @pytest.fixture
    def store(self, clock: Clock) -> MemoryStore:
        return MemoryStore(clock=clock)

    def test_a_fork_has_a_copy_of_its_own(self, store: MemoryStore) -> None:
        store.create(make_operation("a"))
        parent = store.incarnation()

        def work() -> None:
            assert store.get("a") is not None
            assert store.incarnation() != parent
            store.create(make_operation("b"))

        assert run_in_fork(work)
        assert store.get("b") is None

    def test_two_stores_share_nothing(self, store: MemoryStore) -> None:
        store.create(make_operation("a"))
        assert MemoryStore().get("a") is None


def test_it_is_a_store_that_sees_who_lives() -> None:
    store: Store = MemoryStore()
    assert isinstance(store, Liveness)
