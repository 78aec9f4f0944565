"""`raincheck store init`: it says what it did, and what it could not do."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from raincheck.cli.main import main
from raincheck.stores import open_store
from raincheck.stores.postgresql import schema as postgresql_schema
from tests.support.real_servers import postgresql_url


@pytest.fixture
def schema() -> Iterator[str]:
    name = f"rain_{secrets.token_hex(4)}"
    yield name
    with psycopg.connect(postgresql_url(), autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.mark.server
def test_tables_are_made_found_and_brought_up_to_date(
    schema: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, now = f"{postgresql_url()}?schema={schema}", len(postgresql_schema.STEPS)
    assert main(["store", "init", url]) == 0
    assert (
        f"in schema {schema} were made, in version {now}; another role" in capsys.readouterr().out
    )
    assert main(["store", "init", url]) == 0
    assert f"are there already, in version {now}" in capsys.readouterr().out
    steps = [*postgresql_schema.STEPS, ("SELECT 1",)]
    monkeypatch.setattr(postgresql_schema, "STEPS", steps)
    assert main(["store", "init", url]) == 0
    assert f"were brought from version {now} to {now + 1}" in capsys.readouterr().out
    monkeypatch.undo()
    assert main(["store", "init", url]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "upgrade raincheck" in said.err


def test_a_server_that_does_not_answer_is_said_in_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["store", "init", "postgresql://u:s3cret@127.0.0.1:1/x"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "127.0.0.1:1/x" in said.err
    assert "s3cret" not in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("url", ["mysql://u:s3cret@h/x", "postgresql://u:s3cret@h/x?pool=0", "x"])
def test_a_url_that_is_wrong_is_said_in_one_sentence(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", "init", url]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "s3cret" not in said.err
    assert said.err.count("\n") == 1


def test_other_stores_need_nothing_but_have_to_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for url in ("memory:", f"sqlite://{tmp_path}/operations.db"):
        assert main(["store", "init", url]) == 0
        assert "is ready" in capsys.readouterr().out
    assert (tmp_path / "operations.db").exists()
    (tmp_path / "file").touch()
    assert main(["store", "init", f"sqlite://{tmp_path}/file/operations.db"]) == 1
    assert "file" in capsys.readouterr().err


def test_what_is_prepared_by_hand_is_a_store(schema: str) -> None:
    store = open_store(f"postgresql://u@127.0.0.1:1/x?schema={schema}")
    assert callable(getattr(store, "prepare", None))


@pytest.mark.parametrize("arguments", [["store"], ["store", "drop", "memory:"]])
def test_a_command_that_is_not_whole_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: raincheck store" in capsys.readouterr().err
