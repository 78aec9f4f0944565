"""An operation and the job that tells of it, in one transaction: both or neither."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from raincheck.errors import ConfigurationError, StoreError, StoreUnavailable
from raincheck.http.messages import Request
from raincheck.operations.operation import State
from raincheck.runners.procrastinate import Jobs, ProcrastinateStore, ProcrastinateWorkers
from tests.runners.engines.jobs import Database, database, waiting

REQUEST = Request("POST", "/reports")


@pytest.fixture
def place() -> Iterator[Database]:
    with database() as place:
        yield place


@pytest.fixture
def store(place: Database) -> Iterator[ProcrastinateStore]:
    with closing(ProcrastinateStore(place.url, {"workers": Jobs(queue="reports")})) as store:
        yield store


def test_an_operation_and_its_job_are_made_together_and_told_of_once(
    place: Database, store: ProcrastinateStore
) -> None:
    store.create(waiting("a"), REQUEST)
    assert place.jobs("todo") == place.operations() == ["a"]
    store.telling["workers"]("a")
    assert place.jobs() == ["a"]
    assert place.rows("SELECT queue_name, queueing_lock FROM procrastinate_jobs") == [
        ("reports", "op:a")
    ]


def test_what_is_told_again_has_one_job_that_waits(
    place: Database, store: ProcrastinateStore
) -> None:
    store.create(waiting("a"))
    for _ in range(3):
        store.telling["workers"]("a")
    assert place.jobs() == ["a"]
    place.rows("UPDATE procrastinate_jobs SET status = 'doing' RETURNING id")
    store.telling["workers"]("a")
    assert place.jobs("todo") == ["a"]


@pytest.mark.parametrize(
    "more",
    [{"queue": None}, {"queue": "nightly"}, {"not_before": 2000.0}, {"state": State.RUNNING}],
    ids=str,
)
def test_what_does_not_wait_for_these_workers_now_has_no_job(
    place: Database, store: ProcrastinateStore, more: dict[str, Any]
) -> None:
    store.create(waiting("a", **more))
    assert (place.operations(), place.jobs()) == (["a"], [])


def test_what_comes_under_a_key_that_another_holds_has_no_job(
    place: Database, store: ProcrastinateStore
) -> None:
    store.create(waiting("a"), dedupe="key")
    assert store.create(waiting("b"), dedupe="key").id == "a"
    assert place.operations() == place.jobs() == ["a"]


def test_a_call_that_is_repeated_makes_nothing_twice(
    place: Database, store: ProcrastinateStore
) -> None:
    for _ in range(2):
        assert store.create(waiting("a")) == waiting("a")
    assert place.operations() == place.jobs() == ["a"]


# What fails, as the database itself has it fail: each statement, and the end of the transaction.
FAILURES = {
    "the operation": ("raincheck_operations", "BEFORE"),
    "its request": ("raincheck_requests", "BEFORE"),
    "the job": ("procrastinate_jobs", "BEFORE"),
    "after the job": ("procrastinate_jobs", "AFTER"),
    "the commit": ("procrastinate_jobs", "deferred"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_whatever_fails_there_is_neither_an_operation_nor_a_job(
    place: Database, store: ProcrastinateStore, failure: str
) -> None:
    table, when = FAILURES[failure]
    kind, moment = ("CONSTRAINT ", "AFTER") if when == "deferred" else ("", when)
    timing = "DEFERRABLE INITIALLY DEFERRED" if when == "deferred" else ""
    store.prepare()
    with psycopg.connect(place.url) as connection:
        for statement in (
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'this fails'; END $$",
            f"CREATE {kind}TRIGGER fails {moment} INSERT ON {table} {timing} "
            "FOR EACH ROW EXECUTE FUNCTION fail()",
        ):
            connection.execute(statement.encode())
    with pytest.raises(StoreError, match="this fails"):
        store.create(waiting("a"), REQUEST)
    assert place.operations() == place.jobs() == []
    assert place.rows("SELECT operation_id FROM raincheck_requests") == []
    with psycopg.connect(place.url) as connection:
        connection.execute(f"DROP TRIGGER fails ON {table}".encode())
    store.create(waiting("a"), REQUEST)
    assert place.operations() == place.jobs() == ["a"]


KILLED = """
import os, signal, sys
from raincheck.runners.procrastinate import Jobs, ProcrastinateStore
from raincheck.stores.postgresql.connections import Connection
from tests.runners.engines.jobs import waiting
store = ProcrastinateStore(sys.argv[1], {"workers": Jobs()})
store.prepare()
left = int(sys.argv[2])
def step(sent):
    def counted(self, *args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return sent(self, *args, **kwargs)
    return counted
# Each exchange with the server: BEGIN, the operation, the job, COMMIT.
Connection.wait = step(Connection.wait)
store.create(waiting("a"))
print("over")
"""


@pytest.mark.slow
def test_a_process_that_is_killed_between_two_statements_leaves_both_or_neither(
    place: Database,
) -> None:
    left: list[tuple[list[str], list[str]]] = []
    for steps in range(40):
        command = [sys.executable, "-c", KILLED, place.url, str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=60)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        found = (place.operations(), place.jobs())
        if found[0]:
            assert found == (["a"], ["a"])
            break
        assert found == ([], [])
        left.append(found)
    assert len(left) >= 4  # it was killed before each of them


def test_a_database_without_procrastinate_is_told_in_plain_words(
    place: Database, store: ProcrastinateStore
) -> None:
    store.prepare()
    drop = "DROP FUNCTION procrastinate_defer_jobs_v1"
    with psycopg.connect(place.url) as connection:
        connection.execute(drop.encode())
    with pytest.raises(StoreError, match="procrastinate_defer_jobs_v1"):
        store.create(waiting("a"))
    assert place.operations() == []
    with pytest.raises(StoreError, match="procrastinate_defer_jobs_v1"):
        ProcrastinateWorkers(place.url)("a")


def test_workers_are_told_through_connections_of_their_own(place: Database) -> None:
    tell = ProcrastinateWorkers(place.url, queue="reports", priority=7)
    for operation_id in ("a", "b", "a"):
        tell(operation_id)
    found = place.rows(
        "SELECT args ->> 'operation_id', queue_name, priority FROM procrastinate_jobs"
    )
    assert found == [("a", "reports", 7), ("b", "reports", 7)]


def test_a_database_that_is_gone_is_told_of_without_its_password() -> None:
    tell = ProcrastinateWorkers("postgresql://me:secret@127.0.0.1:1/jobs")
    with pytest.raises(StoreUnavailable) as told:
        tell("a")
    assert "secret" not in str(told.value)
    with pytest.raises(ConfigurationError):
        ProcrastinateWorkers("postgresql://me:secret@[jobs")
