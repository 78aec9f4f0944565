"""How long identical requests are answered with what was coalesced and is over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raincheck.operations.operation import Operation, Reason, Result, State, is_stale

BEGUN, ENDED = 1000.0, 1001.0
OVER = Operation(
    "a", State.SUCCEEDED, BEGUN, ENDED, 60.0, "GET", "/", expires=ENDED + 60, coalesced=True
)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_it_is_stale_some_seconds_after_its_end(state: State) -> None:
    over = replace(OVER, state=state)
    assert [is_stale(over, ENDED + late) for late in (0, 10, 10.2, 60)] == [False] * 2 + [True] * 2


def test_it_is_stale_later_if_clients_were_told_to_come_later() -> None:
    long, longer = (replace(OVER, created=ENDED - age) for age in (100, 100_000))
    assert [is_stale(long, ENDED + late) for late in (19, 20, 21)] == [False, False, True]
    assert [is_stale(longer, ENDED + late) for late in (39, 40, 41)] == [False, False, True]


def test_what_is_forgotten_is_stale() -> None:
    assert is_stale(replace(OVER, forgotten=True), ENDED)


@pytest.mark.parametrize("other", [{"state": State.RUNNING}, {"coalesced": False}])
def test_what_runs_or_has_a_key_of_its_own_is_never_stale(other: dict[str, object]) -> None:
    assert not is_stale(replace(OVER, **other), ENDED + 60)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "is_at_once"),
    [
        ({"result": Result(200, (), 0, 1, 1)}, False),
        ({"result": Result(500, (), 0, 1, 1)}, False),
        *(({"result": Result(s, (), 0, 1, 1)}, True) for s in (429, 502, 503, 504)),
        ({"state": State.FAILED, "reason": Reason.EXCEPTION}, False),
        ({"state": State.FAILED, "reason": Reason.INTERRUPTED}, True),
        ({"state": State.FAILED, "reason": Reason.SHUTDOWN}, True),
        ({"state": State.CANCELLED}, True),
        ({"expires": ENDED}, True),
        ({"expires": None}, True),
    ],
)
def test_what_may_be_otherwise_the_next_time_is_stale_at_once(
    other: dict[str, object], is_at_once: bool
) -> None:
    assert is_stale(replace(OVER, **other), ENDED) is is_at_once  # type: ignore[arg-type]
