"""Writers of one process that come together share a commit, and nothing else."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from raincheck.errors import StoreError
from raincheck.stores.sqlite import SQLiteStore
from raincheck.stores.sqlite.database import Database
from raincheck.stores.sqlite.parts import MOST, Part, within
from raincheck.testing.material import in_threads, make_operation, run_in_fork

PATIENCE = 30.0  # seconds
ignore_forks = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
Work = Callable[[sqlite3.Connection], Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path, "CREATE TABLE things (name TEXT UNIQUE)", "normal")
    database.write(lambda c: None)
    yield database
    database.close()


def insert(name: str) -> Work:
    return lambda connection: connection.execute("INSERT INTO things VALUES (?)", (name,)).rowcount


def together(database: Database, works: list[Work]) -> list[Any]:
    """Have several threads write, all of which wait before the first of them may."""
    results: list[Any] = [None] * len(works)

    def write(n: int) -> None:
        try:
            results[n] = database.write(works[n])
        except Exception as error:
            results[n] = error

    threads = [threading.Thread(target=write, args=(n,)) for n in range(len(works))]
    with database._lock:
        for thread in threads:
            thread.start()
        deadline = threading.Event()
        while len(database._waiting) < len(works):
            assert not deadline.wait(0.001)
    for thread in threads:
        thread.join(PATIENCE)
    return results


def commits(database: Database) -> list[str]:
    """Return what begins and ends a transaction from now on, as it comes."""
    seen: list[str] = []
    database._current().set_trace_callback(seen.append)
    return seen


def names(database: Database) -> set[str]:
    return {name for (name,) in database.read("SELECT name FROM things", ())}


def test_writers_that_wait_share_a_commit(database: Database) -> None:
    seen = commits(database)
    assert together(database, [insert(f"{n}") for n in range(8)]) == [1] * 8
    assert names(database) == {f"{n}" for n in range(8)}
    assert seen.count("COMMIT") == 1


def test_a_writer_alone_has_a_transaction_without_more(database: Database) -> None:
    seen = commits(database)
    database.write(insert("a"))
    assert [each.split()[0] for each in seen] == ["BEGIN", "INSERT", "COMMIT"]


def test_what_one_refuses_is_undone_and_concerns_nobody_else(database: Database) -> None:
    def refuse(connection: sqlite3.Connection) -> None:
        insert("refused")(connection)
        raise StoreError("not this one")

    first, refused, last = together(database, [insert("a"), refuse, insert("b")])
    assert (first, last) == (1, 1)
    assert isinstance(refused, StoreError)
    assert names(database) == {"a", "b"}


def test_where_one_fails_each_goes_on_by_itself(database: Database) -> None:
    database.write(insert("taken"))
    seen = commits(database)
    results = together(database, [insert("a"), insert("taken"), insert("b")])
    assert (results[0], results[2]) == (1, 1)
    assert isinstance(results[1], StoreError)
    assert names(database) == {"taken", "a", "b"}
    assert seen.count("COMMIT") == 2


def test_a_commit_that_fails_is_made_again_by_each(database: Database) -> None:
    failures = [sqlite3.OperationalError("disk I/O error")]

    def fail_once(connection: sqlite3.Connection) -> int:
        insert("a")(connection)
        if failures:
            raise failures.pop()
        return 2

    assert together(database, [insert("b"), fail_once, insert("c")]) == [1, 2, 1]
    assert names(database) == {"a", "b", "c"}


def test_who_comes_behind_more_than_one_commit_takes_is_done_once(database: Database) -> None:
    done: list[int] = []
    database._waiting.extend(Part(insert(f"{n}"), adds=True) for n in range(MOST))
    database.write(lambda _: done.append(1))
    together(database, [insert("a"), insert("b")])
    assert done == [1]
    assert names(database) >= {"a", "b"}


def test_an_unexpected_error_is_met_by_whose_it_is(database: Database) -> None:
    def fail(_: sqlite3.Connection) -> None:
        raise OverflowError("too large")

    first, failed, last = together(database, [insert("a"), fail, insert("b")])
    assert (first, last) == (1, 1)
    assert isinstance(failed, OverflowError)
    assert names(database) == {"a", "b"}


def test_what_was_interrupted_while_it_waited_is_done_by_nobody_else(database: Database) -> None:
    class Interrupted:
        def __enter__(self) -> None:
            raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None: ...

    lock, database._lock = database._lock, Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        database.write(insert("interrupted"))
    database._lock = lock
    together(database, [insert("a"), insert("b")])
    assert names(database) == {"a", "b"}


class Begins:
    """A connection whose user is interrupted when a transaction has just begun."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str) -> None:
        self._connection.execute(statement)
        if statement.startswith("BEGIN"):
            raise KeyboardInterrupt


def test_an_interrupt_leaves_no_transaction_open(database: Database) -> None:
    with pytest.raises(KeyboardInterrupt):
        within(Begins(database._current()), insert("a"))  # type: ignore[arg-type]
    database.write(insert("b"))
    assert names(database) == {"b"}


def test_who_writes_while_the_same_thread_does_undoes_nothing(database: Database) -> None:
    def interrupted(connection: sqlite3.Connection) -> None:
        insert("a")(connection)
        with pytest.raises(StoreError):
            database.write(insert("b"))

    database.write(interrupted)
    assert names(database) == {"a"}


@ignore_forks
def test_a_fork_writes_nothing_of_its_parents_threads(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        done = threading.Event()

        def work(n: int) -> bool:
            if n == 0:
                try:
                    return all(run_in_fork(lambda: fork_writes(store)) for _ in range(5))
                finally:
                    done.set()
            made = 0
            while not done.is_set():
                store.create(make_operation(f"{n} {made}"))
                made += 1
            return all(store.get(f"{n} {one}") is not None for one in range(made))

        assert in_threads(6, work) == [True] * 6


def fork_writes(store: SQLiteStore) -> None:
    assert not store._database._waiting
    store.create(make_operation(f"fork {threading.get_native_id()}"))
