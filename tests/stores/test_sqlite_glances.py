"""What an SQLite store has at hand, it shows whoever else uses the file; it waits for nobody."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from raincheck.errors import StoreError
from raincheck.operations.operation import Operation
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing.material import changed, in_threads, make_operation


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path)
    yield store
    store.close()


@pytest.fixture
def operation(store: SQLiteStore) -> Operation:
    return store.create(make_operation())


def test_what_is_kept_is_at_hand(store: SQLiteStore, operation: Operation) -> None:
    assert store.glance("a") == operation
    store.write_chunk("a", 1, 0, b"small")
    assert store.glance_at_chunk("a", 1, 0) == b"small"


def test_a_large_chunk_is_in_a_file_and_not_at_hand(
    store: SQLiteStore, operation: Operation
) -> None:
    store.write_chunk(operation.id, 1, 0, b"x" * 300_000)
    assert store.glance_at_chunk("a", 1, 0) is None


def test_a_glance_waits_for_no_writer(path: Path, store: SQLiteStore, operation: Operation) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE operations SET document = 'not yet'")
        assert store.glance("a") == operation
        other.execute("ROLLBACK")
    with store._database._lock:  # as a thread of this process has it that writes
        assert in_threads(2, lambda _: store.glance("a") in (operation, None)) == [True, True]
        assert store.glance("a") == operation


def test_before_the_first_use_and_after_closing_nothing_is_at_hand(
    path: Path, store: SQLiteStore, operation: Operation
) -> None:
    with closing(SQLiteStore(path)) as other:
        assert other.glance("a") is None
        assert other.get("a") == operation
        assert other.glance("a") == operation
        other.close()
        assert other.glance("a") is None


def test_of_a_file_that_was_deleted_nothing_is_at_hand(
    path: Path, store: SQLiteStore, operation: Operation
) -> None:
    path.unlink()
    assert store.glance(operation.id) is None


def test_a_record_that_cannot_be_read_is_for_get_to_explain(
    path: Path, store: SQLiteStore, operation: Operation
) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE operations SET document = '{'")
    with pytest.raises(StoreError, match="not a record"):
        store.glance(operation.id)
    with pytest.raises(StoreError, match="not a record"):
        store.get(operation.id)


def test_where_no_descriptor_is_left_one_can_do_without(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, opened = store._database._connect, list[sqlite3.Connection]()

    def one_only() -> sqlite3.Connection:
        if opened:
            raise sqlite3.OperationalError("unable to open database file")
        opened.append(connect())
        return opened[0]

    monkeypatch.setattr(store._database, "_connect", one_only)
    operation = store.create(make_operation())
    assert store.glance("a") is None
    assert store.get("a") == operation


def test_glances_keep_no_log_from_being_shortened(
    path: Path, store: SQLiteStore, operation: Operation
) -> None:
    for n in range(50):
        assert store.swap(operation, changed(operation, route=f"/{n}" + "x" * 5000))
        operation = store.get("a") or operation
        assert store.glance("a") == operation
    with closing(sqlite3.connect(path)) as other:
        busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert os.path.getsize(f"{path}-wal") == 0
