"""`raincheck list`: which operations, in which order, and how they are shown."""

from __future__ import annotations

import io
import os
import re
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest

from raincheck.cli import listing
from raincheck.cli.main import main
from raincheck.operations.operation import IN_FLIGHT, TERMINAL, Progress, State
from raincheck.operations.store import Store
from raincheck.stores import OBJECTS
from tests.cli.conftest import HOSTILE, Commands, keep, keep_response

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0


def test_list_shows_the_newest_first(store: Store, raincheck: Commands) -> None:
    ages = [5 * DAY, 3.0, 2 * HOUR, 90.0, 0.5 * HOUR, 20 * DAY]
    states = [*TERMINAL, *IN_FLIGHT]
    for n, (age, state) in enumerate(zip(ages, states, strict=True)):
        keep(store, f"operation-{n}", state, age)
    found = [document["id"] for document in raincheck("list", "--json").documents]
    assert found == [f"operation-{n}" for n in (1, 3, 4, 2, 0, 5)]


def test_list_stops_at_its_limit_however_close_together_operations_began(
    store: Store, raincheck: Commands
) -> None:
    now = time.time()
    for n in range(1_000):  # within a millisecond, of which some at the same moment
        keep(store, f"{n:04}", State.SUCCEEDED, created=now - 10 + (n // 10) * 1e-5)
    found = [d["id"] for d in raincheck("list", "--json", "--limit=25").documents]
    assert found == [f"{n:04}" for n in range(999, 974, -1)]
    assert len(raincheck("list", "--json", "--limit=2000").documents) == 1_000


def test_list_finds_what_seems_to_be_of_the_future(store: Store, raincheck: Commands) -> None:
    keep(store, "tomorrow", State.RUNNING, age=-DAY)
    assert raincheck("list").ids == ["tomorrow"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--state", "failed"], "c"),
        (["--state", "failed,running"], "bc"),
        (["--state", "failed", "--state", "canceled"], "cd"),
        (["--state", "in-flight"], "ab"),
        (["--state", "ended"], "cd"),
        (["--route", "/exports/*"], "b"),
        (["--route", "/exports/**"], "bc"),
        (["--route", "/users/{id}", "--route", "/report"], "ad"),
        (["--owner", "ann"], "ac"),
        (["--owner", "ann", "--state", "failed"], "c"),
        (["--queue", "slow"], "b"),
        (["--application", "shop"], "d"),
        (["--older-than", "1h"], "cd"),
        (["--newer-than", "2.5h"], "abc"),
        (["--older-than", "30m", "--newer-than", "2.5h"], "bc"),
        (["--older-than", "9d"], ""),
    ],
)
def test_list_takes_conditions(
    arguments: list[str], expected: str, store: Store, raincheck: Commands
) -> None:
    keep(store, "a", State.ACCEPTED, 10.0, owner="ann")
    keep(store, "b", State.RUNNING, 0.6 * HOUR, route="/exports/1", queue="slow")
    keep(store, "c", State.FAILED, 2 * HOUR, route="/exports/1/rows", owner="ann")
    keep(store, "d", State.CANCELLED, 3 * HOUR, route="/users/7", application="shop\n/v1")
    found = raincheck("list", "--json", *arguments)
    assert "".join(document["id"] for document in found.documents) == expected
    assert (found.status, found.err) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--state", "done"],
        ["--route", "reports"],
        ["--older-than", "5"],
        ["--newer-than", "-5m"],
        ["--limit", "0"],
        ["--watch", "0"],
        ["--watch", "nan"],
    ],
)
def test_a_wrong_condition_is_a_usage_error(
    arguments: list[str], store: Store, raincheck: Commands
) -> None:
    said = raincheck("list", *arguments)
    assert (said.status, said.out) == (2, "")
    assert "usage: raincheck list" in said.err


def test_a_table_has_a_line_for_each_and_cuts_ids(store: Store, raincheck: Commands) -> None:
    progress = Progress(3, 10, "rendering")
    keep(store, "1234567890abcdef", State.RUNNING, 65.0, owner="ann", progress=progress)
    said = raincheck("list")
    title, row = said.out.splitlines()
    assert title.split() == ["ID", "STATE", "AGE", "REQUEST", "PROGRESS", "OWNER", "END"]
    assert row.split("  ")[0] == "12345678"
    for shown in ("running", "1m 5s", "GET /report", "3/10 rendering", "ann"):
        assert shown in row
    assert row.index("running") == title.index("STATE")
    assert said.err == "", "nobody looks"


def test_no_text_of_others_reaches_the_terminal_as_it_is(store: Store, raincheck: Commands) -> None:
    progress = Progress(1, message=HOSTILE)
    keep(store, "hostile1", State.RUNNING, route=f"/{HOSTILE}", owner=HOSTILE, progress=progress)
    for arguments in (["list"], ["show", "hostile1"], ["list", "--json"]):
        out = raincheck(*arguments).out
        assert all(letter.isprintable() or letter == "\n" for letter in out), arguments
    assert len(raincheck("list").out.splitlines()) == 2


def test_documents_have_whole_ids_and_nothing_that_lets_anybody_in(
    store: Store, raincheck: Commands
) -> None:
    webhook = "https://user:s3cret@hooks.example/T0/s3cret?key=s3cret"
    secrets = {"form_token": "s3cret", "webhook": webhook, "fingerprint": "s3cret"}
    keep_response(store, "1234567890abcdef", b"the report", **secrets)
    [document] = raincheck("list", "--json").documents
    assert document["id"] == "1234567890abcdef"
    assert document["webhook"] == "https://hooks.example"
    assert document["result"]["length"] == 10
    for arguments in (["list", "--json"], ["list"], ["show", "1234"], ["show", "1234", "--json"]):
        assert "s3cret" not in raincheck(*arguments).out


def test_the_record_of_an_object_storage_is_no_operation(store: Store, raincheck: Commands) -> None:
    owner = "n4mespace"
    operation = keep(store, OBJECTS, State.SUCCEEDED, created=0.0, expires=1.0, owner=owner)
    keep(store, "one", State.SUCCEEDED)
    assert raincheck("list").ids == ["one"]
    assert raincheck("show", OBJECTS).status == 1
    assert raincheck("store", "info", "--json").documents[0]["operations"]["succeeded"] == 1
    assert raincheck("purge", "--state=ended", "--older-than=1s", "--yes").status == 0
    assert store.get(OBJECTS) == operation


def test_watch_draws_until_it_is_interrupted(
    store: Store, raincheck: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt
        keep(store, f"number-{len(slept)}", State.ACCEPTED)

    monkeypatch.setattr(listing, "time", SimpleNamespace(sleep=sleep))
    said = raincheck("list", "--watch", "5", "--json")
    assert said.status == 0
    assert slept == [5.0, 5.0, 5.0]
    ids = [document["id"] for document in said.documents]
    assert ids == ["number-1", "number-2", "number-1"]


def test_watch_fits_the_screen(
    store: Store, raincheck: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(40):
        keep(store, f"number{n:02}", State.ACCEPTED, 60.0 * n)

    def sleep(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(listing, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setenv("LINES", "12")
    shown = raincheck.on_a_terminal("list", "--watch")
    assert shown.count("\n") == 10
    assert "number00" in shown
    assert "number39" not in shown


def test_a_time_that_no_calendar_has_stops_no_list(store: Store, raincheck: Commands) -> None:
    keep(store, "for-ever", State.SUCCEEDED, expires=1e18)
    assert raincheck("list", "--json").documents[0]["expires"] is None
    assert raincheck("list").ids == ["for-ever"]
    assert re.search(r"^expires +never$", raincheck("show", "for-ever").out, re.MULTILINE)


def test_an_unreadable_record_hides_no_other_one(
    store: Store, raincheck: Commands, tmp_path: Path
) -> None:
    keep(store, "good", State.RUNNING)
    keep(store, "spoilt", State.RUNNING)
    with sqlite3.connect(tmp_path / "operations.db") as connection:
        connection.execute("UPDATE operations SET document = '{' WHERE id = 'spoilt'")
    connection.close()
    assert raincheck("list").ids == ["good"]
    assert raincheck("show", "spoilt").status == 1


@pytest.mark.server
def test_a_reader_that_has_enough_gets_no_traceback(store: Store) -> None:
    first = keep(store, "operation", State.SUCCEEDED, route="/" + "x" * 10_000)
    for n in range(200):  # more than a pipe takes
        store.create(replace(first, id=f"operation-{n}"))
    command = [sys.executable, "-m", "raincheck", "list", "--json", "--limit=5000"]
    # Unbuffered, Python does not notice that a write was cut off in the middle.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, text=True, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("{")
        process.stdout.close()  # as `head` does
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize("has_rich", [True, False])
def test_a_terminal_obeys_nobody_but_raincheck(
    has_rich: bool, store: Store, raincheck: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setenv("NO_COLOR", "1")
    progress = Progress(1, message=f"[red]{HOSTILE}")
    keep(store, "hostile1", State.RUNNING, route=f"/{HOSTILE}", owner=HOSTILE, progress=progress)
    shown = raincheck.on_a_terminal("list")
    assert "a ]0;x   b" in shown
    assert "[red]" in shown, "markup is text"
    assert "whole id opens the response" in " ".join(shown.split())
    ours = re.sub(r"\x1b\[[01]m", "", shown)  # bold
    assert all(letter.isprintable() or letter in "\r\n" for letter in ours)
    assert ("─" in shown) is has_rich


def test_there_are_colours_on_a_terminal_alone(
    store: Store, raincheck: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    keep(store, "one", State.FAILED)
    red = "\x1b[31mfailed"
    assert red in raincheck.on_a_terminal("list")
    assert "\x1b" not in raincheck("list").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert red not in raincheck.on_a_terminal("list")


def test_what_a_stream_can_not_write_is_written_otherwise(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, "one", State.FAILED, owner="→" * 50)
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        assert main(["list"]) == 0
    assert b"\\u2192" in stdout.buffer.getvalue()


@pytest.mark.server
def test_the_program_is_installed_under_its_name() -> None:
    [script] = entry_points(group="console_scripts", name="raincheck")
    assert script.load() is main
