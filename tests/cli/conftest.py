"""A store in a file that the command line finds, operations in it, and commands on it."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raincheck.cli.main import main
from raincheck.operations.operation import (
    CLAIMED,
    TERMINAL,
    Operation,
    Reason,
    Result,
    State,
)
from raincheck.operations.store import Store
from raincheck.stores import open_store
from tests.support.terminals import said_on

HOSTILE = "a\x1b]0;x\x07\r\nb\u202e\x9b"


def keep(
    store: Store, operation_id: str, state: State, age: float = 0.0, **fields: Any
) -> Operation:
    """Keep an operation that was begun some seconds ago."""
    now = time.time()
    known: dict[str, Any] = {"created": now - age, "updated": now - age, "retention": 86_400.0}
    if state in CLAIMED:
        known |= {"worker": "worker-1", "lease": now + 30, "fence": 1}
    if state in TERMINAL:
        known |= {"expires": now + 86_400.0, "fence": 1}
    if state is State.FAILED:
        known["reason"] = Reason.INTERRUPTED
    request = {"method": "GET", "route": "/report"}
    return store.create(Operation(operation_id, state, **{**request, **known, **fields}))


def keep_response(store: Store, operation_id: str, body: bytes, **fields: Any) -> Operation:
    """Keep one that has succeeded, with its response in chunks of four bytes."""
    for n, start in enumerate(range(0, len(body), 4)):
        store.write_chunk(operation_id, 1, n, body[start : start + 4])
    headers = ((b"content-type", b"text/plain"), (b"set-cookie", b"session=s3cret"))
    result = Result(200, headers, len(body), 4, 1)
    return keep(store, operation_id, State.SUCCEEDED, **{"result": result, **fields})


@dataclass(frozen=True)
class Said:
    """What a command has done."""

    status: int
    out: str
    err: str

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def ids(self) -> list[str]:
        """The first column of a table."""
        return [line.split()[0] for line in self.out.splitlines()[1:]]


class Commands:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Said:
        self._capsys.readouterr()
        try:
            status = main(arguments)
        except SystemExit as exit_:
            status = int(str(exit_.code))
        said = self._capsys.readouterr()
        return Said(status, said.out, said.err)

    def bytes(self, *arguments: str) -> tuple[Said, bytes]:
        """Return also what was written to stdout, which need not be text."""
        with pytest.MonkeyPatch.context() as patch, io.BytesIO() as written:
            patch.setattr(sys, "stdout", io.TextIOWrapper(written, write_through=True))
            said = self(*arguments)
            return said, written.getvalue()

    def on_a_terminal(self, *arguments: str) -> str:
        """Return what is written where somebody looks."""
        leader, follower = pty.openpty()
        with os.fdopen(follower, "w") as terminal, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", terminal)
            patch.setattr(sys, "stderr", terminal)
            patch.setenv("TERM", "xterm")
            patch.setenv("COLUMNS", "100")
            assert self(*arguments).status == 0
        return said_on(leader).decode()


@pytest.fixture
def raincheck(capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(capsys)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/operations.db"


@pytest.fixture
def store(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Open the store that commands find by themselves."""
    monkeypatch.setenv("RAINCHECK_STORE", url)
    with closing(open_store(url)) as store:
        store.get("none")
        yield store
