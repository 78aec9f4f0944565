"""Values that nobody has kept anew for long are deleted by a purge: services come and go."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from raincheck.operations.store import KEPT_AGE, Keeping, Store
from raincheck.stores import objects
from raincheck.stores.memory import MemoryStore
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing import Clock
from tests.stores.third_party import FolderStore

Make = Callable[[Path, Clock], Store]
STORES: dict[str, Make] = {
    "memory": lambda path, clock: MemoryStore(clock=clock),
    "sqlite": lambda path, clock: SQLiteStore(path / "store.db", clock=clock),
    "mapping": FolderStore,
    "objects": lambda path, clock: objects.with_bodies_at(MemoryStore(clock=clock), "memory:///"),
}


@pytest.mark.parametrize("name", STORES)
def test_what_was_not_kept_for_long_is_deleted(name: str, tmp_path: Path) -> None:
    clock = Clock()
    with closing(STORES[name](tmp_path, clock)) as store:
        assert isinstance(store, Keeping)
        assert store.keep("old", None, b"1")
        assert store.keep("used", None, b"1")
        clock.now += KEPT_AGE - 60
        assert store.keep("used", b"1", b"2")
        clock.now += 7200
        store.purge(clock.now)
        assert (store.recall("old"), store.recall("used")) == (None, b"2")


def test_values_are_kept_by_the_process_where_what_keeps_the_records_can_not() -> None:
    class Records(MemoryStore):
        recall = keep = None  # type: ignore[assignment]

    with closing(objects.with_bodies_at(Records(), "memory:///")) as store:
        assert isinstance(store, Keeping)
        assert store.keep("a", None, b"1")
        assert store.recall("a") == b"1"
