"""What a swap that drops a request leaves outside of records: files and objects, and for how long.

The contract says what everybody sees; here is what lies on disks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from raincheck.contracts import REQUEST_FENCE, Store
from raincheck.errors import StoreUnavailable
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, Result, State
from raincheck.stores.objects import with_bodies_at
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing import Clock
from raincheck.testing.material import HOUR, MIB, changed, make_operation
from tests.stores.third_party import Files, FolderStore

LARGE = b"\x00\xff" * MIB
REQUEST = Request("POST", "/", length=len(LARGE))
ID = "0123456789abcdef" * 2
RESULT = Result(200, (), len(LARGE), len(LARGE), fence=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def base(tmp_path: Path, clock: Clock) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(tmp_path / "operations.db", clock=clock)) as base:
        yield base


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def store(base: SQLiteStore, directory: Path) -> Store:
    return with_bodies_at(base, f"file://{directory}")


@contextmanager
def failing_storage() -> Iterator[None]:
    """Have nobody find objects."""

    def fail(*arguments: object) -> None:
        raise StoreUnavailable("the storage is down")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "walk", fail)
        yield


def create(store: Store, request: Request = REQUEST, body: bytes = LARGE) -> Operation:
    """Keep an operation with its request, whose response is written already."""
    store.write_chunk(ID, REQUEST_FENCE, 0, body)
    created = store.create(make_operation(ID), request, "key")
    store.write_chunk(ID, 1, 0, LARGE)
    return created


def ended(operation: Operation) -> Operation:
    return changed(operation, state=State.SUCCEEDED, result=RESULT, expires=9e9)


def fences(directory: Path) -> list[str]:
    """Name the fence of each file: of an object, or of a body file."""
    names = sorted(path.name for path in directory.rglob("*") if path.is_file())
    return [name.rpartition(".")[2].partition("-")[0] for name in names]


# --- SQLite ------------------------------------------------------------------------------------


def test_the_body_file_of_a_dropped_request_is_deleted(base: SQLiteStore, tmp_path: Path) -> None:
    old = create(base)
    files = tmp_path / "operations.db-bodies"
    assert not base.swap(replace(old, version=9), ended(old), drop_request=True)
    assert fences(files) == ["0", "1"]
    assert base.swap(old, ended(old), drop_request=True)
    assert fences(files) == ["1"]


# --- objects -----------------------------------------------------------------------------------


def test_the_objects_of_a_dropped_request_are_deleted(store: Store, directory: Path) -> None:
    old = create(store)
    assert not store.swap(replace(old, version=9), ended(old), drop_request=True)
    assert store.swap(old, replace(old, version=2))
    assert fences(directory) == ["0", "1"]
    old = replace(old, version=2)
    assert store.swap(old, ended(old), drop_request=True)
    assert fences(directory) == ["1"]
    assert list(store.read_chunks(ID, 1, 0, 1)) == [LARGE]


@pytest.mark.parametrize("body", [b"", b"small"])
def test_a_small_request_is_dropped_without_a_look_at_the_objects(
    store: Store, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    old = create(store, replace(REQUEST, length=len(body)), body)
    with failing_storage():
        assert store.swap(old, ended(old), drop_request=True)
    assert not caplog.records


def test_objects_of_what_is_dropped_that_were_left_go_with_a_repeated_swap_or_the_next_sweep(
    store: Store, directory: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The storage fails, or the process is killed, between the swap and the deleting."""
    old = create(store)
    with failing_storage():
        assert store.swap(old, ended(old), drop_request=True)
    assert "left for later" in caplog.text
    assert ID not in caplog.text
    left = [path for path in directory.rglob("0-*") if path.is_file()]
    assert len(left) == 1
    assert store.swap(old, ended(old), drop_request=True)
    assert fences(directory) == ["1"]
    left[0].write_bytes(LARGE)
    os.utime(left[0], (clock.now, clock.now))
    clock.now += HOUR + 1
    store.purge(clock.now)
    assert fences(directory) == ["1"]


def test_the_objects_of_a_request_that_is_kept_are_not_swept(
    store: Store, directory: Path, clock: Clock
) -> None:
    old = create(store)
    assert store.swap(old, ended(old))
    clock.now += HOUR + 1
    store.purge(clock.now)
    assert fences(directory) == ["0", "1"]


# --- a mapping ---------------------------------------------------------------------------------


class Stuck(Files):
    """A folder from which nothing can be deleted."""

    def __delitem__(self, key: str) -> None:
        raise OSError("killed here")


def test_what_a_killed_process_was_to_drop_goes_with_a_repeated_swap_or_a_purge(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path, clock)
    old = create(store)
    new = changed(old, state=State.SUCCEEDED, forgotten=True, expires=1000.0)
    with monkeypatch.context() as patched:
        patched.setattr("tests.stores.third_party.Files", Stuck)
        with pytest.raises(StoreUnavailable, match="killed here"):
            store.swap(old, new, drop_request=True, drop_dedupe=True)
    assert store.get(ID) == new
    assert kinds(tmp_path) == ["changes", "chunk", "chunk", "dedupe", "lock", "record", "request"]
    assert store.swap(old, new, drop_request=True, drop_dedupe=True)
    assert kinds(tmp_path) == ["changes", "chunk", "lock", "record"]
    store.write_chunk(ID, REQUEST_FENCE, 0, LARGE)
    assert store.purge(1000.0) == 1
    assert kinds(tmp_path) == ["changes", "lock"]


def kinds(folder: Path) -> list[str]:
    """Name what kinds of files there are, once for each file that is not just a note."""
    found = sorted(path.name.partition(".")[0] for path in folder.iterdir())
    return [kind for kind in found if kind not in ("new", "touched")]
