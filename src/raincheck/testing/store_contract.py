"""The contract that every store is held to: one test per clause of the `Store` protocol."""

from __future__ import annotations

import pytest

from raincheck.operations.store import Store
from raincheck.stores.memory import MemoryStore
from raincheck.testing.body_contract import BodyContract
from raincheck.testing.conclude_contract import ConcludeContract
from raincheck.testing.count_contract import CountContract
from raincheck.testing.find_contract import FindContract
from raincheck.testing.keep_contract import KeepContract
from raincheck.testing.look_contract import LookContract
from raincheck.testing.material import Clock
from raincheck.testing.purge_contract import PurgeContract
from raincheck.testing.record_contract import RecordContract
from raincheck.testing.request_contract import RequestContract
from raincheck.testing.sharing_contract import SharingContract


class StoreContract(
    RecordContract,
    RequestContract,
    FindContract,
    CountContract,
    BodyContract,
    PurgeContract,
    SharingContract,
    KeepContract,
    LookContract,
    ConcludeContract,
):
    """What a store must do, in tests; `raincheck.contracts.Store` says it in words.

    A subclass supplies the fixture `store`: an empty store, which is closed afterwards. It may
    override the other two.
    """

    @pytest.fixture
    def clock(self) -> Clock | None:
        """The time that tests want to set: `store` is to take its time from it, by calling it.

        Return None if your store has a clock that can't be set, such as its server's. What needs
        another time is then skipped, and is yours to test.
        """
        return Clock()

    @pytest.fixture
    def shared(self, store: Store) -> bool:
        """Whether processes share the store; False only where each one has its own."""
        return not isinstance(store, MemoryStore)
