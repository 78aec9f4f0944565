"""What a store with objects shows of records as the store below it does."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from raincheck.operations.operation import Operation
from raincheck.operations.store import Gathering, Glancing, Store


class Records:
    """The part of a store that is `Gathering`, and `Glancing` at records.

    Args:
        store: Keeps them.
    """

    def __init__(self, store: Store) -> None:
        self._glancing = store if isinstance(store, Glancing) else None
        self._gathering = store if isinstance(store, Gathering) else None

    def glance(self, operation_id: str) -> Operation | None:
        return None if self._glancing is None else self._glancing.glance(operation_id)

    def get_all(self, operation_ids: Collection[str]) -> Mapping[str, Operation]:
        return {} if self._gathering is None else self._gathering.get_all(operation_ids)
