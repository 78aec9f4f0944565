"""`raincheck purge`: what has expired, and what is to be forgotten before its time."""

from __future__ import annotations

import io
import sys
import time

import pytest

from raincheck.operations.operation import State
from raincheck.operations.store import Store
from tests.cli.conftest import Commands, keep, keep_response

EARLY = ["purge", "--state=ended", "--older-than=1h"]


def is_forgotten(store: Store, operation_id: str) -> bool:
    stored = store.get(operation_id)
    assert stored is not None
    return stored.forgotten


def test_purge_forgets_what_has_expired_and_nothing_else(store: Store, raincheck: Commands) -> None:
    now = time.time()
    keep_response(store, "expired", b"the report", expires=now - 1)
    keep(store, "memory", State.SUCCEEDED, forgotten=True, expires=now - 1)
    keep_response(store, "promised", b"the report")
    keep(store, "running", State.RUNNING, 9e6)
    said = raincheck("purge")
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines() == [
        "1 response was forgotten",
        "1 that had been forgotten before: the records are deleted",
    ]
    assert store.get("memory") is None
    assert [is_forgotten(store, each) for each in ("expired", "promised", "running")] == [
        *(True, False, False)
    ]
    again = raincheck("purge", "--json")
    assert again.documents == [{"forgotten": 0, "deleted": 0, "untold": 0}]


def test_what_has_ended_is_forgotten_early_where_it_is_asked_for(
    store: Store, raincheck: Commands
) -> None:
    keep_response(store, "old", b"the report", age=7_200.0)
    keep(store, "old-failed", State.FAILED, 7_200.0)
    keep(store, "young", State.SUCCEEDED, 60.0)
    keep(store, "old-running", State.RUNNING, 7_200.0)
    said = raincheck("purge", "--state", "succeeded", "--older-than", "1h", "--yes")
    assert (said.status, said.out) == (0, "1 response was forgotten\n")
    ids = ("old", "old-failed", "young", "old-running")
    assert [is_forgotten(store, each) for each in ids] == [True, False, False, False]


def test_a_webhook_that_is_still_to_be_told_keeps_its_operation(
    store: Store, raincheck: Commands
) -> None:
    keep(store, "untold", State.SUCCEEDED, 7_200.0, webhook="https://hooks.example/")
    said = raincheck(*EARLY, "--yes")
    assert "1 response was left: webhooks are still to be told" in said.out
    assert not is_forgotten(store, "untold")


def test_where_nobody_can_be_asked_nothing_is_forgotten(
    store: Store, raincheck: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, "old", State.SUCCEEDED, 7_200.0)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    said = raincheck(*EARLY)
    assert (said.status, said.out) == (2, "")
    assert "--yes" in said.err
    assert not is_forgotten(store, "old")


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "expected"), [("y\n", True), ("\n", False), ("", False)])
def test_a_person_is_asked(
    answer: str,
    expected: bool,
    store: Store,
    raincheck: Commands,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep(store, "old", State.SUCCEEDED, 7_200.0)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    said = raincheck(*EARLY)
    assert "Forget 1 response (cancelled, failed, succeeded; begun 1h ago or before)?" in said.err
    assert is_forgotten(store, "old") is expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["--older-than=1h"],
        ["--state=failed"],
        ["--owner=ann"],
        ["--state=running", "--older-than=1h"],
    ],
)
def test_what_is_not_whole_forgets_nothing(
    arguments: list[str], store: Store, raincheck: Commands
) -> None:
    keep(store, "old", State.FAILED, 7_200.0, owner="ann")
    assert raincheck("purge", "--yes", *arguments).status == 2
    assert not is_forgotten(store, "old")


def test_hundreds_are_forgotten_with_progress(
    store: Store, raincheck: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(120):
        keep(store, f"{n}", State.FAILED, 7_200.0)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr(sys, "stderr", stderr := Terminal())
    assert raincheck(*EARLY, "--yes").out == "120 responses were forgotten\n"
    assert "forgetting 120 of 120" in stderr.getvalue()
