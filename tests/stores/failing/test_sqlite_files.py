"""The SQLite store when its file or directory is taken away from under it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from raincheck.errors import StoreError, StoreUnavailable
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing.material import make_operation
from tests.stores.failing.backends import AT_MOST, in_thread, timed
from tests.stores.failing.calls import CALLS, OPERATION, use
from tests.stores.test_sqlite_disks import mounted

FILES = ("operations.db", "operations.db-wal", "operations.db-shm")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "operations.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(path)) as store:
        yield store


def remount(directory: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(directory)], check=True, timeout=30)


def test_a_disk_that_becomes_read_only_is_unavailable_for_writing_until_it_is_not(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=4m"), closing(SQLiteStore(disk / "operations.db")) as store:
        CALLS["create"].run(store)
        store.close()
        remount(disk, "ro")
        for name in ("create", "swap", "write_chunk", "discard", "purge"):
            with pytest.raises(StoreUnavailable):
                CALLS[name].run(store)
        remount(disk, "rw")
        assert store.get("a") == OPERATION
        use(store, "b")


def test_a_lock_that_lasts_costs_every_thread_some_seconds_and_no_more(
    path: Path, store: SQLiteStore
) -> None:
    CALLS["create"].run(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [
            in_thread(lambda n=n: timed(lambda: store.create(make_operation(f"{n}"))))  # type: ignore[misc]
            for n in range(4)
        ]
        assert store.get("a") == OPERATION, "readers do not wait"
        for future in waiting:
            taken, error = future.result(2 * AT_MOST)
            assert error is not None
            assert taken < AT_MOST
        other.execute("ROLLBACK")
    use(store, "b")


def test_a_lock_that_is_released_in_time_is_waited_for(path: Path, store: SQLiteStore) -> None:
    CALLS["create"].run(store)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(1.0, lambda: other.execute("ROLLBACK"))
        release.start()
        use(store, "b")
        release.join()


@pytest.mark.parametrize("missing", [FILES, FILES[:1]], ids=["all files", "the database"])
def test_a_deleted_file_is_an_error_or_begun_anew_and_never_half_there(
    path: Path, store: SQLiteStore, missing: tuple[str, ...]
) -> None:
    CALLS["create"].run(store)
    for name in missing:
        (path.parent / name).unlink(missing_ok=True)
    with closing(SQLiteStore(path)) as newcomer:
        try:
            use(newcomer, "new")
        except StoreError:
            return
        assert newcomer.get("new") is not None


def test_after_its_directory_was_deleted_both_an_old_and_a_new_user_see_the_same(
    path: Path, store: SQLiteStore
) -> None:
    CALLS["create"].run(store)
    shutil.rmtree(path.parent)
    try:
        use(store, "b")
    except StoreUnavailable:
        store.close()
        use(store, "b")
    with closing(SQLiteStore(path)) as newcomer:
        assert newcomer.get("b") is not None
