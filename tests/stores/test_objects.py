"""Large chunks as objects keep the contract over every store, lie where they should, and go."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg.conninfo import conninfo_to_dict

from raincheck.contracts import Filter, Liveness, Store
from raincheck.errors import BodyMissing, ConfigurationError, StoreUnavailable
from raincheck.http.messages import Request
from raincheck.operations.operation import Result, State
from raincheck.stores import keep_bodies
from raincheck.stores.memory import MemoryStore
from raincheck.stores.objects import NAMESPACE, ObjectBodies, with_bodies_at
from raincheck.stores.postgresql import PostgreSQLStore
from raincheck.stores.redis import RedisStore
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing import Clock, StoreContract
from raincheck.testing.material import HOUR, MIB, changed, forgotten, in_threads, make_operation
from tests.support.real_servers import postgresql_url, redis_url

pytestmark = pytest.mark.load
KIB = 1024
LARGE = b"\x00\xff" * MIB
POINTER = b"\0raincheck object\0"


class TestObjectsInMemory(StoreContract):
    """The contract, where all is in memory."""

    @pytest.fixture
    def shared(self) -> bool:
        return False

    @pytest.fixture
    def store(self, clock: Clock) -> Store:
        return with_bodies_at(MemoryStore(clock=clock), "memory:///")


class TestObjectsBesideSQLite(StoreContract):
    """The contract, with one machine's file and directory."""

    @pytest.fixture
    def store(self, tmp_path: Path, clock: Clock) -> Iterator[Store]:
        base = SQLiteStore(tmp_path / "operations.db", clock=clock)
        with closing(with_bodies_at(base, f"file://{tmp_path}/objects")) as store:
            yield store


@pytest.mark.server
@pytest.mark.slow
class TestObjectsBesideRedis(StoreContract):
    """The contract, over a store that does not see who lives."""

    @pytest.fixture
    def store(self, tmp_path: Path, clock: Clock) -> Iterator[Store]:
        prefix = f"objects-{secrets.token_hex(6)}"
        base = RedisStore(f"{redis_url()}?prefix={prefix}", clock=clock)
        with closing(with_bodies_at(base, f"file://{tmp_path}/objects")) as store:
            yield store
        with closing(redis.Redis.from_url(redis_url())) as client:
            for key in client.scan_iter(f"{prefix}*"):
                client.unlink(key)


@pytest.mark.server
@pytest.mark.slow
class TestObjectsBesidePostgreSQL(StoreContract):
    """The contract, over tables."""

    @pytest.fixture
    def store(self, tmp_path: Path, clock: Clock) -> Iterator[Store]:
        schema = f"objects_{secrets.token_hex(6)}"
        base = PostgreSQLStore(conninfo_to_dict(postgresql_url()), schema=schema, clock=clock)
        with closing(with_bodies_at(base, f"file://{tmp_path}/objects")) as store:
            yield store
        with psycopg.connect(postgresql_url(), autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


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


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def owners(directory: Path) -> list[str]:
    """Name the operations that have objects, once for each."""
    return [path.parent.name for path in files(directory)]


def read(store: Store, id: str = "a", fence: int = 1, n: int = 0) -> bytes:
    return next(store.read_chunks(id, fence, n, n + 1))


# --- what it is ----------------------------------------------------------------------------------


def test_it_sees_who_lives_where_the_store_does() -> None:
    living: Store = with_bodies_at(MemoryStore(), "memory:///")
    assert isinstance(living, Liveness)
    other: Store = with_bodies_at(RedisStore("redis://127.0.0.1"), "memory:///")
    assert not isinstance(other, Liveness)


def test_it_asks_for_larger_chunks(store: ObjectBodies) -> None:
    assert store.chunk_size == 4 * MIB


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("objects", "objects.storage"):
        monkeypatch.delitem(sys.modules, f"raincheck.stores.{name}")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigurationError, match=r'pip install "raincheck\[object-storage\]"'):
        keep_bodies(MemoryStore(), "s3://bucket")


# --- where what lies -----------------------------------------------------------------------------


def test_constructing_makes_nothing(store: Store, tmp_path: Path) -> None:
    store.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("size", "objects"), [(256 * KIB - 1, 0), (256 * KIB, 1), (5 * MIB, 1)])
def test_only_large_chunks_are_objects(
    store: Store, base: Store, directory: Path, size: int, objects: int
) -> None:
    data = os.urandom(size)
    store.write_chunk("a", 1, 0, data)
    assert [path.read_bytes() for path in files(directory)] == [data] * objects
    assert (read(base) == data) == (not objects)
    assert read(store) == data


def test_an_object_lies_below_its_operation(store: Store, directory: Path) -> None:
    for fence, n in ((1, 0), (1, 1), (2, 0)):
        store.write_chunk("../ä/", fence, n, LARGE)
    [namespace] = directory.iterdir()
    [operation] = namespace.iterdir()
    assert operation.name == "%2E%2E%2F%C3%A4%2F"
    assert [path.name[:4] for path in files(operation)] == ["1-0-", "1-1-", "2-0-"]


def test_only_its_owner_can_come_to_an_object(store: Store, directory: Path) -> None:
    old = os.umask(0)
    try:
        store.write_chunk("a", 1, 0, LARGE)
    finally:
        os.umask(old)
    [namespace] = directory.iterdir()
    assert stat.S_IMODE(namespace.stat().st_mode) == 0o700


def test_the_record_of_the_namespace_is_nobodys_operation(store: Store, base: Store) -> None:
    store.write_chunk("a", 1, 0, LARGE)
    assert base.get(NAMESPACE) is not None
    assert store.get(NAMESPACE) is None
    assert store.find(Filter()) == ([], None)


def test_all_users_of_a_store_agree_on_the_namespace(base: Store, directory: Path) -> None:
    stores = [with_bodies_at(base, f"file://{directory}") for _ in range(8)]
    in_threads(8, lambda i: stores[i].write_chunk(f"{i}", 1, 0, LARGE))
    assert len(list(directory.iterdir())) == 1
    assert [read(stores[i - 1], f"{i}") for i in range(8)] == [LARGE] * 8


# --- what is read --------------------------------------------------------------------------------


def test_of_racing_writers_one_wins_whole(store: Store) -> None:
    bodies = [bytes([i]) * (MIB + i) for i in range(8)]
    for n in range(5):
        in_threads(8, lambda i, n=n: store.write_chunk("a", 1, n, bodies[i]))  # type: ignore[misc]
        assert read(store, n=n) in bodies


def test_a_reader_sees_the_old_chunk_or_the_new_one(store: Store) -> None:
    bodies = [bytes([i]) * (MIB + i) for i in range(2)]
    store.write_chunk("a", 1, 0, bodies[0])

    def work(i: int) -> None:
        for n in range(50):
            if i:
                store.write_chunk("a", 1, 0, bodies[n % 2])
            else:
                assert read(store) in bodies

    in_threads(2, work)


def test_there_is_no_pointer_without_an_object(store: Store, directory: Path) -> None:
    directory.write_text("in the way")
    with pytest.raises(StoreUnavailable):
        store.write_chunk("a", 1, 0, LARGE)
    with pytest.raises(BodyMissing):
        read(store)
    directory.unlink()
    store.write_chunk("a", 1, 0, LARGE)
    assert read(store) == LARGE


def test_an_object_that_is_gone_or_cut_is_a_missing_body(store: Store, directory: Path) -> None:
    store.write_chunk("a", 1, 0, LARGE)
    [path] = files(directory)
    path.write_bytes(LARGE[:-1])
    with pytest.raises(BodyMissing):
        read(store)
    path.unlink()
    with pytest.raises(BodyMissing):
        read(store)


def test_what_was_written_before_there_were_objects_can_be_read(store: Store, base: Store) -> None:
    for n, data in enumerate((b"", b"x", LARGE, POINTER, POINTER + b"0" * 80)):
        base.write_chunk("a", 1, n, data)
        assert read(store, n=n) == data


def test_a_body_that_looks_like_a_pointer_is_none(store: Store, base: Store) -> None:
    store.write_chunk("secret", 1, 0, LARGE)
    pointer = read(base, "secret")
    assert pointer.startswith(POINTER)
    store.write_chunk("a", 1, 0, pointer)
    assert read(store) == pointer
    base.write_chunk("a", 1, 1, pointer)
    with pytest.raises(BodyMissing):
        read(store, n=1)


# --- what is deleted -----------------------------------------------------------------------------


def test_discarding_deletes_what_was_replaced_too(store: Store, directory: Path) -> None:
    for data in (LARGE, LARGE[1:], b"small"):
        store.write_chunk("a", 1, 0, data)
        assert read(store) == data
    store.write_chunk("b", 1, 0, LARGE)
    store.discard("a")
    assert owners(directory) == ["b"]
    assert [path.name for path in next(directory.iterdir()).iterdir()] == ["b"]


def test_discarding_disturbs_no_writer(store: Store) -> None:
    def work(i: int) -> None:
        for _ in range(100):
            if i < 2:
                store.write_chunk("a", 1, i, LARGE)
            else:
                store.discard("a")

    in_threads(4, work)


def test_a_discard_that_meets_a_failing_storage_is_made_up_for(
    store: Store, directory: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store.create(forgotten("a" * 32, expires=clock.now + 2 * HOUR))
    store.write_chunk("a" * 32, 1, 0, LARGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "walk", _fail)
        store.discard("a" * 32)
    assert "left for later" in caplog.text
    assert "a" * 32 not in caplog.text
    with pytest.raises(BodyMissing):
        read(store, "a" * 32)
    clock.now += HOUR + 1
    store.purge(clock.now)
    assert owners(directory) == []


def _fail(*arguments: object, **options: object) -> None:
    raise StoreUnavailable("the storage is down")


def test_objects_that_nobody_can_read_are_swept_when_they_are_an_hour_old(
    store: Store, directory: Path, clock: Clock
) -> None:
    succeeded = Result(200, (), 1, 1, fence=2)
    for operation in (
        make_operation("running"),
        forgotten("forgotten", expires=clock.now + 10 * HOUR),
        make_operation("failed", state=State.FAILED),
        make_operation("succeeded", state=State.SUCCEEDED, result=succeeded),
    ):
        store.create(operation, Request("POST", "/") if operation.id == "succeeded" else None)
    for id in ("running", "forgotten", "failed", "succeeded", "unknown"):
        for fence in range(3):
            store.write_chunk(id, fence, 0, LARGE)
    clock.now += HOUR - 60
    store.purge(clock.now)
    assert len(files(directory)) == 15
    clock.now += HOUR
    store.purge(clock.now)
    assert owners(directory) == ["running"] * 3 + ["succeeded"] * 2
    assert [read(store, "running", fence) for fence in range(3)] == [LARGE] * 3
    assert [read(store, "succeeded", fence) for fence in (0, 2)] == [LARGE] * 2


def test_a_purge_takes_objects_with_it(store: Store, directory: Path, clock: Clock) -> None:
    store.create(forgotten("a", expires=clock.now))
    store.write_chunk("a", 1, 0, LARGE)
    clock.now += 10
    assert store.purge(clock.now) == 1
    clock.now += HOUR + 1
    assert store.purge(clock.now) == 0
    assert owners(directory) == []


def test_nobody_elses_objects_are_swept(store: Store, directory: Path, clock: Clock) -> None:
    with closing(MemoryStore(clock=clock)) as another:
        other = with_bodies_at(another, f"file://{directory}")
        other.create(make_operation("other's"))
        other.write_chunk("other's", 1, 0, LARGE)
        store.write_chunk("mine", 1, 0, LARGE)
        [namespace] = [path for path in directory.iterdir() if (path / "mine").exists()]
        strange = [directory / "x", namespace / "x", namespace / "mine" / "x"]
        for path in strange:
            path.write_bytes(b"somebody's")
        clock.now += 10 * HOUR
        store.purge(clock.now)
        assert read(other, "other's") == LARGE
    assert [path.read_bytes() for path in strange] == [b"somebody's"] * 3
    assert "mine" not in [p.parent.name for p in files(directory) if p not in strange]


def test_the_unfinished_file_of_a_killed_process_is_swept(
    store: Store, directory: Path, clock: Clock
) -> None:
    store.write_chunk("a", 1, 0, LARGE)
    [path] = files(directory)
    path.rename(f"{path}#1")
    clock.now += HOUR + 1
    store.purge(clock.now)
    assert [path.name for path in next(directory.iterdir()).iterdir()] == []


def test_sweeps_are_an_hour_apart(store: Store, directory: Path, clock: Clock) -> None:
    store.write_chunk("a", 1, 0, LARGE)
    clock.now += HOUR - 60
    store.purge(clock.now)
    for minutes in range(58):
        clock.now += 60
        store.purge(clock.now)
        assert owners(directory) == ["a"], minutes
    clock.now += 120
    store.purge(clock.now)
    assert owners(directory) == []


def test_a_version_that_is_swapped_in_leaves_objects_alone(store: Store, clock: Clock) -> None:
    old = store.create(make_operation("a"))
    store.write_chunk("a", 1, 0, LARGE)
    result = Result(200, (), len(LARGE), 4 * MIB, fence=1)
    store.swap(old, changed(old, state=State.SUCCEEDED, result=result))
    clock.now += 10 * HOUR
    store.purge(clock.now)
    assert read(store) == LARGE


def test_a_writer_that_was_overtaken_leaves_no_object(tmp_path: Path) -> None:
    with closing(with_bodies_at(MemoryStore(), f"file://{tmp_path}")) as store:
        running = store.create(make_operation(fence=1))
        store.write_chunk("a", 1, 0, LARGE)
        assert store.swap(running, changed(running, state=State.FAILED))
        store.discard("a")
        store.write_chunk("a", 1, 1, LARGE)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
