"""The SQLite store on disks that are full or can't be written: small file systems in memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from raincheck.asgi import RaincheckMiddleware
from raincheck.config.options import Settings
from raincheck.contracts import Filter
from raincheck.engine.engine import MEMORY, Engine
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import State
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing.material import MIB, Clock, make_operation
from tests.support.asgi import Call, call, engine_of, follow, path_of
from tests.support.handlers import answer, until_deferred, wrap


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    directory.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True, timeout=30)


def fill(directory: Path) -> Path:
    """Use up all space with one file."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filler


def create_until_full(store: SQLiteStore) -> None:
    for n in range(1000):
        store.create(make_operation(f"{n}", owner="x" * 1000))


def test_a_read_only_disk_makes_the_store_unavailable(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro,size=1m"):
        store = SQLiteStore(tmp_path / "disk" / "operations.db")
        for use in (store.incarnation, lambda: store.create(make_operation())):
            with pytest.raises(StoreUnavailable):
                use()


def test_a_full_disk_loses_nothing_and_works_again_when_there_is_space(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=1m"), closing(SQLiteStore(disk / "operations.db")) as store:
        store.create(make_operation("before"))
        filler = fill(disk)
        with pytest.raises(StoreUnavailable):
            create_until_full(store)
        with pytest.raises(StoreUnavailable):
            store.write_chunk("before", 1, 0, b"x" * 100_000)
        assert store.get("before") is not None
        filler.unlink()
        store.create(make_operation("after"))
        store.write_chunk("after", 1, 0, b"x" * 100_000)
        assert list(store.read_chunks("after", 1, 0, 1)) == [b"x" * 100_000]


def test_a_new_store_on_a_full_disk_is_unavailable_until_there_is_space(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=1m"), closing(SQLiteStore(disk / "operations.db")) as store:
        filler = fill(disk)
        with pytest.raises(StoreUnavailable):
            store.create(make_operation())
        filler.unlink()
        store.create(make_operation())


def test_what_did_not_fit_takes_no_space(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=1m"), closing(SQLiteStore(disk / "operations.db")) as store:
        store.create(make_operation())
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                store.write_chunk("a", 1, 0, b"x" * 2 * MIB)
        store.write_chunk("a", 1, 0, b"x" * 300_000)
        assert list(store.read_chunks("a", 1, 0, 1)) == [b"x" * 300_000]


async def _slow(scope: Any, receive: Any, send: Any) -> None:
    await anyio.sleep(0.2)
    await answer(send, b"x" * 300_000)


async def _late(scope: Any, receive: Any, send: Any) -> None:
    await until_deferred()
    await _slow(scope, receive, send)


def _requested(store: str) -> tuple[RaincheckMiddleware, Call]:
    app = wrap(_slow, store=store)
    return app, anyio.run(call, app)


def test_a_request_that_a_full_disk_cannot_record_is_not_answered_202(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=1m"):
        fill(disk)
        _, done = _requested(f"sqlite://{disk}/operations.db")
    assert (done.status, len(done.content)) == (200, 300_000)


def test_a_request_that_a_corrupt_file_cannot_record_is_not_answered_202(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "operations.db").write_bytes(b"no database" * 1000)
    app, done = _requested(f"sqlite://{tmp_path}/operations.db")
    assert done.status == 200
    assert "is not a usable SQLite database" in caplog.text
    polled = anyio.run(call, app, "/operations/" + "0" * 32)
    assert (polled.status, polled.header(b"retry-after")) == (503, b"5")


def test_a_request_that_a_read_only_place_cannot_record_is_not_answered_202(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    _, done = _requested(f"sqlite://{tmp_path}/file/operations.db")
    assert done.status == 200


def test_a_disk_that_fills_up_during_a_response_delays_it_until_there_is_room(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"

    async def run() -> Call:
        accepted = await call(app)
        filler = fill(disk)
        await anyio.sleep(0.5)  # longer than the handler takes
        assert (await call(app, path_of(accepted))).status == 202
        filler.unlink()
        return await follow(app, accepted)

    with mounted(disk, "size=1m"):
        app = wrap(_late, store=f"sqlite://{disk}/operations.db")
        assert len(anyio.run(run).content) == 300_000
        engine_of(app).close()


class Disk:
    """A small disk that a store has filled with operations that have ended, and expire soon."""

    def __init__(self, path: Path, store: SQLiteStore, clock: Clock, size: int) -> None:
        self.path, self.store, self.clock, self.size = path, store, clock, size
        self.engine = Engine(Settings(), store)
        self.taken = self.fill()

    def fill(self) -> int:
        """Add operations until there is no room for more; return how many."""
        expires = self.clock.now + 1
        for n in range(5000):
            try:
                ended = make_operation(f"{expires} {n}", state=State.SUCCEEDED, expires=expires)
                self.store.create(ended)
                self.store.write_chunk(ended.id, 1, 0, b"x" * self.size)
            except StoreUnavailable:
                return n
        raise AssertionError("the disk was not filled")

    def purge_after(self, seconds: float) -> None:
        """Purge all that is due by then."""
        self.clock.now += seconds
        while not self.engine.purge():
            pass


@contextmanager
def filled(tmp_path: Path, size: int) -> Iterator[Disk]:
    disk, clock = tmp_path / "disk", Clock()
    with (
        mounted(disk, "size=2m"),
        closing(SQLiteStore(disk / "operations.db", clock=clock)) as store,
    ):
        yield Disk(disk, store, clock, size)


@pytest.mark.parametrize("size", [100, 40_000, 300_000], ids=["records", "rows", "files"])
def test_a_full_disk_is_emptied_when_everything_has_expired(tmp_path: Path, size: int) -> None:
    with filled(tmp_path, size) as disk:
        with suppress(OSError), (disk.path / "others").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        disk.purge_after(2)
        assert disk.store.find(Filter(forgotten=False)) == ([], None)
        disk.purge_after(2 * MEMORY)
        (disk.path / "others").unlink()
        assert disk.fill() >= disk.taken / 2


@pytest.mark.parametrize("size", [100, 40_000], ids=["records", "rows"])
def test_a_disk_that_the_store_itself_has_filled_is_used_again(tmp_path: Path, size: int) -> None:
    """A database never gets smaller: what it has freed is within it."""
    with filled(tmp_path, size) as disk:
        disk.purge_after(2 * MEMORY)
        disk.purge_after(2 * MEMORY)
        assert disk.fill() >= disk.taken / 2


def test_a_system_that_reserves_nothing_in_advance_takes_operations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")  # as on macOS
    store = SQLiteStore(tmp_path / "operations.db")
    store.create(make_operation())
    reserve = tmp_path / "operations.db-reserve"
    assert reserve.stat().st_blocks * 512 >= reserve.stat().st_size > 0
    store.close()
