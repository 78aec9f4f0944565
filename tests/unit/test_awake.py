"""Time that passes while a process is frozen, or its machine sleeps, is told from other time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raincheck.engine.awake import LEAPS, STRIDE, Deadline, Moment


@pytest.mark.parametrize(
    ("passed", "left"),
    [
        ([], 5.0),
        ([0.5, 0.5], 4.0),
        ([STRIDE], 4.0),
        ([0.5, 60.0, 0.5], 4.0),
        ([60.0] * LEAPS, 5.0),
        ([60.0] * LEAPS + [2.0], 3.0),
        ([0.5] * 10, 0.0),
        ([0.5] * 9 + [60.0], 0.5),
    ],
)
def test_a_deadline_does_not_run_while_its_process_is_frozen_but_comes(
    passed: list[float], left: float
) -> None:
    moments = iter([0.0, *(sum(passed[: n + 1]) for n in range(len(passed))), sum(passed)])
    deadline = Deadline(5.0, lambda: next(moments))
    for _ in passed:
        assert deadline.left >= 0
    assert deadline.left == pytest.approx(left)


@pytest.mark.parametrize(("left", "step"), [(5.0, STRIDE / 2), (0.2, 0.2), (0.0, 0.0), (-1.0, 0.0)])
def test_who_waits_for_a_deadline_looks_twice_in_a_stride(left: float, step: float) -> None:
    assert Deadline(left, lambda: 0.0).step == step


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    clocks = {"monotonic": 100.0, "wall": 1_000_000.0}
    time = SimpleNamespace(monotonic=lambda: clocks["monotonic"], time=lambda: clocks["wall"])
    monkeypatch.setattr("raincheck.engine.awake.time", time)
    return clocks


@pytest.mark.parametrize(
    ("monotonic", "wall", "age", "has_slept"),
    [
        (3.0, 3.0, 3.0, False),
        (3.0, 3.5, 3.5, False),
        (3.0, 60.0, 60.0, True),  # the machine slept, or the clock was set
        (3.0, -60.0, 3.0, True),
    ],
)
def test_a_moments_age_counts_the_sleep_of_the_machine(
    clocks: dict[str, float], monotonic: float, wall: float, age: float, has_slept: bool
) -> None:
    moment = Moment.now()
    clocks["monotonic"] += monotonic
    clocks["wall"] += wall
    assert moment.age == age
    assert moment.has_slept is has_slept
