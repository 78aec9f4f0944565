"""Tables, what they note, and what benchmarks are asked by."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from tests.benchmarks.tables import NOTES, Table, choose, missing, more, ratio


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    missing.cache_clear()
    monkeypatch.setenv(NOTES, str(tmp_path / "notes"))
    return tmp_path / "notes"


def test_a_table_notes_its_figures_by_title_row_and_column(notes: Path) -> None:
    table = Table("Polls", "store", "per second", "goal", "ratio", detail="3 rounds")
    table.row("memory", more(1234.5), "0.7", ratio([1, 2, 3], [2, 4, 4], "less"))
    first, second = (json.loads(line) for line in notes.read_text().splitlines())
    assert (first["name"], first["value"]) == ("Polls / memory / per second", 1234.5)
    assert (second["name"], second["value"]) == ("Polls / memory / ratio", 0.5)
    assert (first["is_ratio"], second["is_ratio"]) == (False, True)


def test_a_figure_is_printed_as_it_is_to_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Table("Polls", "store", "per second").row("memory", more(1234.5))
    assert "1,234" in capsys.readouterr().out


def test_what_is_missing_is_said_and_noted_once(
    notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing("wrk")
    missing("wrk")
    assert capsys.readouterr().out.count("Missing: wrk") == 1
    assert [json.loads(line) for line in notes.read_text().splitlines()] == [{"missing": "wrk"}]


def test_nothing_is_noted_where_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NOTES, raising=False)
    Table("Polls", "store", "per second").row("memory", more(1234.5))


def test_names_are_chosen_from_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    asked = argparse.ArgumentParser()
    choose(asked, "--stores", ("memory", "redis"))
    assert asked.parse_args([]).stores == ["memory", "redis"]
    assert asked.parse_args(["--stores", "redis"]).stores == ["redis"]
    with pytest.raises(SystemExit):
        asked.parse_args(["--stores", "redis,oracle"])
    assert "oracle: known are memory, redis" in capsys.readouterr().err
