"""The SQLite store keeps the contract, its files private, and its errors apart."""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from raincheck.contracts import REQUEST_FENCE, Filter, Liveness, Store
from raincheck.errors import ConfigurationError, StoreError, StoreUnavailable
from raincheck.http.messages import Request
from raincheck.operations.operation import CLAIMED, TERMINAL, State
from raincheck.stores import open_store
from raincheck.stores.memory import MemoryStore
from raincheck.stores.sqlite import SQLiteStore, additions, database
from raincheck.testing import StoreContract
from raincheck.testing.material import (
    HOUR,
    MIB,
    Clock,
    changed,
    forgotten,
    in_threads,
    make_operation,
)
from tests.support.processes import ROOT

LARGE = b"\x00\xff" * MIB
OLD_FILE = ROOT / "tests" / "unit" / "records" / "sqlite-1.zip"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.2)


def body_files(path: Path) -> list[str]:
    directory = path.with_name(f"{path.name}-bodies")
    return sorted(os.listdir(directory)) if directory.exists() else []


class TestSQLiteStore(StoreContract):
    """The contract, on one file."""

    @pytest.fixture
    def store(self, path: Path, clock: Clock) -> Iterator[SQLiteStore]:
        store = SQLiteStore(path, clock=clock)
        yield store
        store.close()


@pytest.mark.load
@pytest.mark.slow
class TestDurableSQLiteStore(StoreContract):
    """The contract, where every commit waits for the disk."""

    @pytest.fixture
    def store(self, path: Path, clock: Clock) -> Iterator[SQLiteStore]:
        store = SQLiteStore(path, synchronous="full", clock=clock)
        yield store
        store.close()


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path)
    yield store
    store.close()


def test_it_is_a_store_that_sees_who_lives(path: Path) -> None:
    store: Store = SQLiteStore(path)
    assert isinstance(store, Liveness)


# --- files -------------------------------------------------------------------------------------


def test_constructing_opens_nothing(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "new" / "operations.db")
    assert os.listdir(tmp_path) == []
    store.close()
    assert os.listdir(tmp_path) == []


def test_everything_is_its_owners_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = SQLiteStore(tmp_path / "new" / "operations.db")
        store.create(make_operation())
        store.write_chunk("a", 1, 0, LARGE)
        store.incarnation()
    finally:
        os.umask(old)
    modes = {
        entry.relative_to(tmp_path).as_posix(): stat.S_IMODE(entry.stat().st_mode)
        for entry in tmp_path.rglob("*")
    }
    store.close()
    assert modes == {
        "new": 0o700,
        "new/operations.db": 0o600,
        "new/operations.db-wal": 0o600,
        "new/operations.db-shm": 0o600,
        "new/operations.db-processes": 0o600,
        "new/operations.db-reserve": 0o600,
        "new/operations.db-bodies": 0o700,
        "new/operations.db-bodies/a.1": 0o600,
    }


@pytest.mark.parametrize("name", ["with space.db", "ümläut 日本.db", "per%20cent?&#'\";.db", "-x"])
def test_a_path_may_have_any_characters(tmp_path: Path, name: str) -> None:
    with closing(SQLiteStore(tmp_path / name / name)) as store:
        store.create(make_operation())
        store.write_chunk("a", 1, 0, LARGE)
        assert list(store.read_chunks("a", 1, 0, 1)) == [LARGE]
        assert store.lives(store.incarnation())
    assert name in os.listdir(tmp_path / name)


def test_a_relative_path_stays_what_it_was_at_construction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with closing(SQLiteStore("operations.db")) as store:
        store.write_chunk("a", 1, 0, LARGE)
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert list(store.read_chunks("a", 1, 0, 1)) == [LARGE]
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_writer_that_was_overtaken_leaves_no_file(path: Path, store: SQLiteStore) -> None:
    running = store.create(make_operation(fence=1))
    store.write_chunk("a", 1, 0, LARGE)
    assert store.swap(running, changed(running, state=State.FAILED))
    store.write_chunk("a", 1, 1, LARGE)
    assert body_files(path) == ["a.1"]
    store.discard("a")
    store.write_chunk("a", 1, 2, LARGE)
    assert body_files(path) == []


def test_a_body_file_goes_with_its_operation(path: Path, store: SQLiteStore) -> None:
    for id in ("discarded", "purged"):
        store.create(forgotten(id), Request("POST", "/"))
        store.write_chunk(id, REQUEST_FENCE, 0, LARGE)
        store.write_chunk(id, 1, 0, LARGE)
    assert len(body_files(path)) == 4
    store.discard("discarded")
    assert body_files(path) == ["purged.0", "purged.1"]
    store.purge(1000.0)
    assert body_files(path) == []


def test_leftover_files_are_swept_an_hour_after_they_were_written(path: Path, clock: Clock) -> None:
    with closing(SQLiteStore(path, clock=clock)) as store:
        store.write_chunk("known", 1, 0, LARGE)
        store.create(make_operation("known"))
        leftover = path.with_name(f"{path.name}-bodies") / "unknown.1"
        leftover.write_bytes(LARGE)
        os.utime(leftover, (clock.now, clock.now))
        clock.now += HOUR - 1
        store.purge(clock.now)
        assert leftover.exists()
        clock.now += HOUR
        store.purge(clock.now)
        assert body_files(path) == ["known.1"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_two_stores_on_one_file_agree(path: Path, store: SQLiteStore) -> None:
    old = store.create(make_operation())
    with closing(SQLiteStore(path)) as other:
        assert other.get("a") == old
        assert other.incarnation() == store.incarnation()
        assert other.lives(store.incarnation())
        won = in_threads(2, lambda i: (store, other)[i].swap(old, make_operation(version=i + 2)))
        assert sorted(won) == [False, True]
        assert other.get("a") == store.get("a")
    assert store.lives(store.incarnation())


# --- what is often looked for -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "index"),
    [
        (Filter(states=frozenset({State.ACCEPTED})), "operations_by_state (state=?)"),
        (Filter(states=CLAIMED, owner="ann"), "operations_by_state (state=?)"),
        (Filter(states=CLAIMED, worker="w"), "COVERING INDEX operations_claimed (worker=? AND"),
        (Filter(states=CLAIMED, lease_before=9.0), "COVERING INDEX operations_claimed"),
        (
            Filter(states=TERMINAL, expires_before=9.0, forgotten=False),
            "operations_by_promise (forgotten=? AND expires",
        ),
        (Filter(owner="ann"), "operations_by_owner (owner=?)"),
        (Filter(states=TERMINAL, lease_before=9.0), "operations_by_due_time (state=? AND lease<?)"),
    ],
)
@pytest.mark.parametrize("version", ["new", "of the release before"])
def test_what_is_often_looked_for_is_found_by_an_index(
    path: Path, which: Filter, index: str, version: str
) -> None:
    if version != "new":
        with zipfile.ZipFile(OLD_FILE) as archive:
            archive.extractall(path.parent)
    with closing(SQLiteStore(path)) as store:
        query, values = additions.to_find(which, None)
        plan = [
            row[3] for row in store._database.read(f"EXPLAIN QUERY PLAN {query}", (*values, 100))
        ]
        assert index in "\n".join(plan)
        clause, values = additions.to_select(which)
        count = f"EXPLAIN QUERY PLAN SELECT count(*) FROM {clause}"  # noqa: S608
        plan = [row[3] for row in store._database.read(count, tuple(values))]
        assert index in plan[0] or which.owner is not None


def test_only_what_has_ended_is_in_the_index_of_due_times(store: SQLiteStore) -> None:
    """So a renewed lease does not change it."""
    for state, expected in ((State.RUNNING, 0), (State.SUCCEEDED, 1)):
        store.create(make_operation(state.value, state=state, lease=5.0))
        table = "operations INDEXED BY operations_by_due_time"
        count = f"SELECT count(*) FROM {table} WHERE {additions.ENDED}"  # noqa: S608
        [(found,)] = store._database.read(f"{count} AND lease IS NOT NULL", ())
        assert found == expected


# --- URLs --------------------------------------------------------------------------------------


def test_a_url_names_an_absolute_path(tmp_path: Path) -> None:
    with closing(open_store(f"sqlite://{tmp_path}/a%20b.db")) as store:
        store.create(make_operation())
    assert "a b.db" in os.listdir(tmp_path)


def test_a_url_names_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(open_store("sqlite:relative.db")) as store:
        store.create(make_operation())
    assert "relative.db" in os.listdir(tmp_path)


def test_a_url_names_the_memory() -> None:
    assert isinstance(open_store("memory:"), MemoryStore)


@pytest.mark.parametrize(
    ("query", "level"), [("", 1), ("?synchronous=normal", 1), ("?synchronous=full", 2)]
)
def test_a_url_says_how_durable_a_commit_is(tmp_path: Path, query: str, level: int) -> None:
    store = open_store(f"sqlite://{tmp_path}/x.db{query}")
    assert isinstance(store, SQLiteStore)
    with closing(store):
        assert store._database.read("PRAGMA synchronous", ()) == [(level,)]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://relative.db",
        "sqlite:///x.db?synchronous=off",
        "sqlite:///x.db?other=1",
        "sqlite:///x.db?synchronous=full&other=1",
        "sqlite:///x.db#part",
        "sqlite:///x%00.db",
        "/srv/x.db",
        "C:\\x.db",
        "redis://[::1",
        "mysql://localhost/x",
    ],
)
def test_a_url_of_no_store_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:s3cret@localhost:6379/0",
        "mysql://localhost/0?password=s3cret",
        "mysql://user:p#s3cret@localhost",
        "mysql://user:p/s3cret@localhost",
        "redis://user:s3cret@[::1",
        "redis:user:s3cret@localhost",
        "sqlite:///x.db?password=s3cret",
        "user:s3cret@localhost",
    ],
)
def test_an_error_shows_no_credentials(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert "s3cret" not in str(caught.value)


# --- what can be wrong with a file -------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others from writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_lasts_makes_the_store_unavailable(path: Path, store: SQLiteStore) -> None:
    store.create(make_operation("a"))
    with locked(path):
        with pytest.raises(StoreUnavailable, match="locked"):
            store.create(make_operation("b"))
        assert store.get("a") is not None
    store.create(make_operation("b"))


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_lasts_hangs_no_new_store(path: Path, store: SQLiteStore) -> None:
    store.create(make_operation("a"))
    with locked(path), closing(SQLiteStore(path)) as other, pytest.raises(StoreUnavailable):
        other.create(make_operation("b"))


def test_a_newer_schema_is_refused(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        store.create(make_operation())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="upgrade raincheck"):
        SQLiteStore(path).get("a")


@pytest.mark.parametrize("content", [b"this is no database\n" * 100, b"SQLite format 3\x00" * 9])
def test_what_is_no_database_is_named_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match=str(path)):
        SQLiteStore(path).get("a")
    assert path.read_bytes() == content


def test_a_damaged_database_is_named(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        for n in range(200):
            store.create(make_operation(f"{n}"))
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with closing(SQLiteStore(path)) as store, pytest.raises(StoreError, match=str(path)):
        store.find(Filter())


@pytest.mark.parametrize("use", ["get", "create", "write_chunk", "incarnation", "lives", "purge"])
def test_a_path_that_cannot_be_makes_the_store_unavailable(tmp_path: Path, use: str) -> None:
    (tmp_path / "file").touch()
    store = SQLiteStore(tmp_path / "file" / "operations.db")
    arguments: dict[str, tuple[Any, ...]] = {
        "get": ("a",),
        "create": (make_operation(),),
        "write_chunk": ("a", 1, 0, LARGE),
        "incarnation": (),
        "lives": ("1f",),
        "purge": (0.0,),
    }
    with pytest.raises(StoreUnavailable):
        getattr(store, use)(*arguments[use])


def test_a_store_that_nobody_has_closed_is_let_go_of_in_silence(path: Path) -> None:
    store = SQLiteStore(path)
    store.create(make_operation())
    used = [store, store._database]
    used.append(used)  # a cycle: the order in which it ends is open
    del store, used
    gc.collect()  # a warning is an error
    with closing(SQLiteStore(path)) as again:
        assert again.get("a") == make_operation()
