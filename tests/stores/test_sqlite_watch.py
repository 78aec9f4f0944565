"""What a watch of an SQLite file hears, also of files and processes that know of no watches."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest

from raincheck.contracts import Filter
from raincheck.operations.operation import IN_FLIGHT, Operation, State
from raincheck.stores import sqlite
from raincheck.stores.sqlite import SQLiteStore
from raincheck.stores.sqlite.database import SCHEMA_VERSION
from raincheck.testing.material import changed, hears, ids, make_operation, run_in_fork

QUIET = 0.02  # seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path)
    yield store
    store.close()


def noted(path: Path) -> list[str]:
    """Return what a watch could still hear."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT operation_id FROM changes ORDER BY n").fetchall()
    return [row[0] for row in rows]


def finished(operation: Operation) -> Operation:
    return changed(operation, state=State.SUCCEEDED, updated=2000.0)


def test_what_only_renews_a_lease_is_not_told(store: SQLiteStore, path: Path) -> None:
    operation = store.create(make_operation("a", lease=10.0))
    renewed = changed(operation, lease=20.0)
    assert store.swap(operation, renewed)
    assert noted(path) == ["a"]
    assert store.swap(renewed, finished(renewed))
    assert noted(path) == ["a", "a"]


def test_a_change_that_is_refused_is_not_told(store: SQLiteStore, path: Path) -> None:
    operation = store.create(make_operation("a"))
    assert not store.swap(replace(operation, version=7), finished(operation))
    assert not store.swap(make_operation("b"), finished(make_operation("b")))
    store.create(make_operation("c"), dedupe="once")
    store.create(make_operation("d"), dedupe="once")
    assert noted(path) == ["a", "c"]


def test_few_changes_are_kept_and_their_numbers_never_begin_anew(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHANGES_KEPT", 10)
    with closing(store.watch(QUIET)) as watch:
        assert next(watch) is None
        for n in range(95):
            store.create(make_operation(f"{n}"))
            assert hears(watch, f"{n}")
            assert len(noted(path)) <= 20
    assert noted(path)[-1] == "94"
    assert noted(path)[-10:] == [f"{n}" for n in range(85, 95)]


def test_a_watch_that_fell_behind_says_that_something_was_missed(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHANGES_KEPT", 10)
    with closing(store.watch(60)) as watch:
        assert next(watch) is None
        for n in range(100):
            store.create(make_operation(f"{n}"))
        assert next(watch) is None  # long before anything would be quiet for a minute
        assert hears(watch, "99")


def test_a_file_of_an_older_raincheck_can_be_watched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sqlite.SCHEMA)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    store = SQLiteStore(path)
    with closing(store.watch(QUIET)) as watch:
        assert next(watch) is None
        store.create(make_operation("a"))
        assert hears(watch, "a")
    store.close()


def test_an_older_raincheck_can_use_the_file_of_a_newer_one(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it opens the file, and writes to it."""
    in_flight = Filter(states=IN_FLIGHT, owner="ann", application="ours")
    for id in "ab":
        store.create(make_operation(id, owner="ann", application="ours\n"))
    names = sqlite._COLUMNS.replace("application_name, ", "")
    monkeypatch.setattr(sqlite, "_note_change", lambda connection, operation_id: None)
    monkeypatch.setattr(sqlite.additions, "add", lambda connection: None)
    columns = names.split(", ")
    monkeypatch.setattr(sqlite, "_COLUMNS", names)
    monkeypatch.setattr(sqlite, "_SET", ", ".join(f"{name} = ?" for name in columns))
    monkeypatch.setattr(sqlite, "_columns_of", attrgetter(*columns[:-1]))
    older = SQLiteStore(store._database.path)
    old = store.get("a")
    assert old is not None
    assert older.swap(old, finished(old))
    older.create(make_operation("c", owner="ann", application="ours\n"))
    older.close()
    monkeypatch.undo()
    assert store.get("a") == finished(old)
    assert store.count(in_flight, 9) == 1  # and what an older one begins is nobody's
    assert store.count(Filter(states=IN_FLIGHT), 9) == 2
    assert ids(store.find(Filter(owner="ann"))[0]) == ["a", "b", "c"]


@pytest.mark.server
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_watch_goes_on_when_the_process_forks(store: SQLiteStore) -> None:
    with closing(store.watch(QUIET)) as watch:
        assert next(watch) is None
        for n in range(3):
            assert run_in_fork(lambda n=n: store.create(make_operation(f"{n}")))  # type: ignore[misc]  # a default binds n
            assert hears(watch, f"{n}")


def test_a_closed_store_opens_again_for_its_watch(store: SQLiteStore) -> None:
    with closing(store.watch(QUIET)) as watch:
        assert next(watch) is None
        for n in range(3):
            store.create(make_operation(f"{n}"))
            store.close()
            assert hears(watch, f"{n}")
