"""What runs keep, and what is called slower."""

from __future__ import annotations

import json
import math

import pytest

from tests.benchmarks.figures import (
    NOISE,
    Figure,
    Run,
    changes,
    note,
    note_missing,
    of_rounds,
    reservations,
)
from tests.benchmarks.tables import less, more


def run(**fields: object) -> Run:
    given = {"date": "2026-12-01T12:00:00+00:00", "commit": "abc", "is_full": False}
    return Run(**{**given, "versions": {}, "machine": {}, **fields})  # type: ignore[arg-type]  # of tests


def test_a_run_is_read_as_it_was_written() -> None:
    kept = run(
        versions={"python": "CPython 3.11.7"},
        machine={"cores": 2},
        load={"polls": 0.4},
        seconds={"polls": 60.1},
        figures={"polls: Polls / memory, M / ratio": of_rounds([0.78], "more", ".2f")},
        missing=["polls: redis"],
        failed=["growth"],
    )
    assert Run.from_json(kept.to_json()) == kept


def test_a_run_takes_what_a_benchmark_has_noted() -> None:
    kept = run()
    kept.add("polls", [note("Polls / M / ratio", more(0.5)), note_missing("wrk")])
    assert kept.figures == {"polls: Polls / M / ratio": more(0.5)}
    assert kept.missing == ["polls: wrk"]


@pytest.mark.parametrize(
    ("before", "now", "times"),
    [
        (less(2.0), less(4.0), 2.0),
        (less(4.0), less(2.0), 0.5),
        (more(2.0), more(4.0), 0.5),
        (more(4.0), more(2.0), 2.0),
        (less(0.0), less(0.0), 1.0),
        (less(0.0), less(0.1), math.inf),
        (more(1.0), more(0.0), math.inf),
        (less(0.1), less(0.0), 0.0),
        (less(-0.1), less(0.1), math.inf),
    ],
)
def test_how_many_times_as_bad(before: Figure, now: Figure, times: float) -> None:
    assert now.worse_than(before) == times


def test_only_what_differs_beyond_noise_is_a_change_and_the_worst_comes_first() -> None:
    before = {"a": less(1.0), "b": less(1.0), "c": more(1.0), "d": more(1.0), "e": less(1.0)}
    beyond = 1 + NOISE + 0.01
    now = {
        "a": less(1 + NOISE - 0.01),
        "b": less(beyond),
        "c": more(1 / beyond / 2),
        "d": more(beyond),
        "f": less(9.0),
    }
    assert [change.name for change in changes(before, now)] == ["c", "b", "d"]
    assert [change.is_worse for change in changes(before, now)] == [True, True, False]


def test_a_figure_may_have_less_noise_than_others() -> None:
    before = {"a": Figure(1.00, "less", noise=0.01)}
    assert changes(before, {"a": Figure(1.02, "less", noise=0.01)})
    assert not changes(before, {"a": Figure(1.02, "less", noise=0.03)})


def test_how_far_rounds_lie_apart_is_noise() -> None:
    assert of_rounds([1.0, 1.01, 1.02], "less", ".2f").noise == NOISE
    assert of_rounds([0.5, 1.0, 1.5], "less", ".2f").noise == 1.0
    assert of_rounds([1.0], "less", ".2f").noise == NOISE


def test_runs_that_were_made_alike_have_no_reservations() -> None:
    assert reservations(run(), run(commit="def")) == []


def test_what_else_differs_between_runs_is_said() -> None:
    before = run(
        versions={"python": "CPython 3.11.7", "wrk": "4.1"},
        machine={"cores": 8},
        figures={"a": less(1.0)},
    )
    now = run(versions={"python": "CPython 3.12.1"}, machine={"cores": 2}, is_full=True)
    assert reservations(before, now) == [
        "python CPython 3.11.7, now CPython 3.12.1",
        "wrk 4.1, now missing",
        "another machine, {'cores': 8}, now {'cores': 2}",
        "one of the two runs was --full, and measured more",
        "1 of its figures were not measured now",
    ]


def test_a_note_is_one_line() -> None:
    assert json.loads(note("a\nb", less(1.0)))["name"] == "a\nb"
    assert "\n" not in note("a\nb", less(1.0))
