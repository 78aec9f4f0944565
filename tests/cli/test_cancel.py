"""`raincheck cancel`: by the same rules as a client's DELETE."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from raincheck.errors import BodyMissing
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, State
from raincheck.operations.store import Store
from tests.cli.conftest import Commands, keep

ENDED = {"succeeded00": State.SUCCEEDED, "failed00000": State.FAILED}


def test_cancel_says_what_each_became(store: Store, raincheck: Commands) -> None:
    keep(store, "accepted-1", State.ACCEPTED)
    keep(store, "running--1", State.RUNNING)
    for operation_id, state in ENDED.items():
        keep(store, operation_id, state)
    said = raincheck("cancel", "accepted-1", "runn", *ENDED)
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines() == [
        "accepted  cancelled",
        "running-  cancelling: its process is told within a second or so",
        "succeede  had ended before: succeeded",
        "failed00  had ended before: failed",
    ]
    expected = {"accepted-1": State.CANCELLED, "running--1": State.CANCELLING, **ENDED}
    for operation_id, state in expected.items():
        stored = store.get(operation_id)
        assert stored is not None
        assert stored.state is state


def test_one_that_is_not_there_holds_up_no_other_one(store: Store, raincheck: Commands) -> None:
    keep(store, "abcd-1", State.RUNNING)
    keep(store, "abcd-2", State.RUNNING)
    said = raincheck("cancel", "nobody", "abcd-2")
    assert said.status == 1
    assert said.out.startswith("abcd-2  cancelling")
    assert said.err == "there is no operation nobody\n"
    said = raincheck("cancel", "abcd", "nobody")
    assert said.status == 2
    assert said.out == ""


def test_what_waited_leaves_nothing_of_its_request(store: Store, raincheck: Commands) -> None:
    waiting = Operation(
        *("waiting", State.ACCEPTED, 1.0, 1.0, 60.0, "GET", "/x"), captured=True, repeatable=True
    )
    secret = Request("GET", "/x", headers=((b"authorization", b"s3cret"),))
    store.create(waiting, secret)
    assert "s3cret" not in raincheck("show", "waiting").out
    assert raincheck("cancel", "waiting", "--json").documents[0]["state"] == "cancelled"
    assert store.read_request("waiting") is None


def test_what_was_begun_before_leaves_nothing_of_its_response(
    store: Store, raincheck: Commands
) -> None:
    released = keep(store, "released", State.RUNNING)
    store.write_chunk("released", 1, 0, b"half a resp")
    again = replace(released, state=State.ACCEPTED, version=2, worker=None, lease=None)
    assert store.swap(released, again)
    assert raincheck("cancel", "released").status == 0
    with pytest.raises(BodyMissing):
        list(store.read_chunks("released", 1, 0, 1))


def test_a_record_that_is_not_understood_holds_up_no_other_one(
    store: Store, raincheck: Commands, tmp_path: Path
) -> None:
    for operation_id in ("newer", "stranger", "known"):
        keep(store, operation_id, State.RUNNING)
    with closing(sqlite3.connect(tmp_path / "operations.db")) as connection, connection:
        connection.execute("UPDATE operations SET document = '{\"v\":99}' WHERE id = 'newer'")
        connection.execute(
            """UPDATE operations SET document = replace(document, 'running', 'paused')
            WHERE id = 'stranger'"""
        )
    said = raincheck("cancel", "newer", "stranger", "known")
    assert said.status == 1
    assert said.out.splitlines()[0] == "stranger  can not be cancelled: paused"
    assert said.out.splitlines()[1].startswith("known  cancelling")
    assert "of version 99: upgrade it" in said.err
