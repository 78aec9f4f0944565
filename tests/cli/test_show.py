"""`raincheck show`: one operation, found by its id or a part of it, and its response."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from raincheck.operations.operation import Progress, Result, State
from raincheck.operations.store import Store
from raincheck.stores import keep_bodies
from tests.cli.conftest import Commands, keep, keep_response

ID = "1234567890abcdef"


def test_show_has_what_an_operator_needs(store: Store, raincheck: Commands) -> None:
    fields: dict[str, Any] = {"owner": "ann", "queue": "slow", "application": "shop\n/v1"}
    fields |= {"repeatable": True, "captured": True}
    keep(store, ID, State.RUNNING, 65.0, progress=Progress(3, 10, "rendering"), **fields)
    out = raincheck("show", ID).out
    assert out.splitlines()[0].split() == ["id", ID]
    for shown in (
        *("running", "GET /report", "shop at /v1", "ann", "slow", "1m 5s ago", "3/10 rendering"),
        *("worker-1", "(in 29s)", "1, may be run again"),
    ):
        assert shown in out


def test_show_says_what_waits_for_workers_and_until_when(store: Store, raincheck: Commands) -> None:
    later = time.time() + 3_600
    keep(store, ID, State.ACCEPTED, 60.0, queue="slow", not_before=later, lease=later)
    out = raincheck("show", ID).out
    assert re.search(r"^not before .* \(in 59m 5\ds\)$", out, re.MULTILINE)
    assert "lease" not in out, "nobody runs it"
    keep(store, "begun", State.RUNNING, fence=3, unbegun=1, started=time.time() - 10)
    [document] = raincheck("show", "begun", "--json").documents
    assert document["attempts"] == 2
    assert document["started"] is not None


def test_show_says_why_there_is_no_response(store: Store, raincheck: Commands) -> None:
    keep(store, ID, State.FAILED)
    assert "interrupted" in raincheck("show", ID).out
    said = raincheck("show", ID, "--response")
    assert (said.status, said.out) == (1, "")
    assert said.err == "there is no response: the operation is failed, interrupted\n"


@pytest.mark.parametrize("text", ["1234", "1234567", "123456…", ID])
def test_the_beginning_of_an_id_is_enough(text: str, store: Store, raincheck: Commands) -> None:
    keep(store, ID, State.RUNNING)
    keep(store, "12399999", State.RUNNING)
    assert raincheck("show", text, "--json").documents[0]["id"] == ID


def test_several_that_begin_alike_are_named(store: Store, raincheck: Commands) -> None:
    for end in "ab":
        keep(store, f"1234567{end}90123456", State.RUNNING)
    said = raincheck("show", "1234567")
    assert (said.status, said.out) == (2, "")
    assert said.err == "several operations begin with 1234567: 1234567a901, 1234567b901\n"


@pytest.mark.parametrize("text", ["123", "9999", "", "\x1b[2J1234", "1234%", "1234\udcff", "____"])
def test_what_is_not_there_is_status_1(text: str, store: Store, raincheck: Commands) -> None:
    keep(store, ID, State.RUNNING)
    said = raincheck("show", text)
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith("there is no operation ")
    assert "\x1b" not in said.err


def test_the_response_is_written_byte_for_byte(store: Store, raincheck: Commands) -> None:
    keep_response(store, ID, b"\x00\xff\x1b[2Jthe report\r\n")
    said, written = raincheck.bytes("show", ID, "--response")
    assert said.status == 0
    assert written == b"\x00\xff\x1b[2Jthe report\r\n"


def test_include_writes_status_and_fields_but_no_credential(
    store: Store, raincheck: Commands
) -> None:
    keep_response(store, ID, b"the report")
    said, written = raincheck.bytes("show", ID, "-i", "--response")
    assert said.status == 0
    assert written == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nset-cookie: (not shown)\r\n\r\nthe report"
    )


def test_an_empty_response_is_nothing(store: Store, raincheck: Commands) -> None:
    keep_response(store, ID, b"")
    said, written = raincheck.bytes("show", ID, "--response")
    assert (said.status, written) == (0, b"")


def test_a_terminal_gets_no_escape_sequence_from_a_response(
    store: Store, raincheck: Commands
) -> None:
    keep_response(store, ID, "a\x1b[2J→\x9b\n".encode())  # an arrow that chunks cut through
    assert raincheck.on_a_terminal("show", ID, "--response") == "a [2J→ \r\n"


def test_a_body_that_lies_elsewhere_is_not_taken_for_the_response(
    store: Store, raincheck: Commands, tmp_path: Path
) -> None:
    elsewhere = f"file://{tmp_path}/objects"
    body, size = os.urandom(300_000), 262_144
    kept = keep_bodies(store, elsewhere)
    for n in range(2):
        kept.write_chunk(ID, 1, n, body[n * size : (n + 1) * size])
    keep(store, ID, State.SUCCEEDED, result=Result(200, (), len(body), size, 1))
    said, written = raincheck.bytes("show", ID, "--response")
    assert (said.status, written) == (1, b"")
    assert "--bodies" in said.err
    said, written = raincheck.bytes("show", ID, "--response", "--bodies", elsewhere)
    assert (said.status, written) == (0, body)


def test_a_body_that_is_not_all_there_is_status_1(store: Store, raincheck: Commands) -> None:
    keep_response(store, ID, b"the report")
    store.discard(ID)
    said = raincheck("show", ID, "--response")
    assert said.status == 1
    assert "is not all there" in said.err
    assert ID not in said.err


@pytest.mark.parametrize("arguments", [["--json", "--response"], ["-i"], ["--bodies=file:///x"]])
def test_what_contradicts_itself_is_status_2(
    arguments: list[str], store: Store, raincheck: Commands
) -> None:
    assert raincheck("show", ID, *arguments).status == 2
