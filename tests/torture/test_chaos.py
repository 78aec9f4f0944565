"""The schedule of blows: a matter of the seed alone, and fit for short runs."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.torture.chaos import DECK, QUIET, STORE, STORE_DECK, Blow, schedule


def blows(seed: int, duration: float = 60, *, store: bool = True) -> list[Blow]:
    return schedule(seed, duration, targets=3, lease=5, has_store_server=store)


@given(st.integers(), st.floats(0, 300))
def test_a_seed_makes_the_same_blows_every_time(seed: int, duration: float) -> None:
    assert blows(seed, duration) == blows(seed, duration)


def test_another_seed_makes_others() -> None:
    assert blows(1) != blows(2)


@given(st.integers(), st.floats(0, 300))
def test_all_blows_are_in_order_and_over_at_the_end(seed: int, duration: float) -> None:
    planned = blows(seed, duration)
    assert planned == sorted(planned, key=lambda blow: blow.at)
    assert all(blow.at > QUIET and blow.at + blow.seconds < duration for blow in planned)


@given(st.integers())
def test_the_store_is_struck_only_if_it_has_a_server(seed: int) -> None:
    assert all(blow.target in range(3) for blow in blows(seed, store=False))
    assert all((blow.target == STORE) == (blow.action in STORE_DECK) for blow in blows(seed))


def test_a_short_run_has_its_share_of_every_kind() -> None:
    rare = Counter(len({blow.action for blow in blows(seed, 25)}) for seed in range(100))
    assert rare[len(DECK) + len(STORE_DECK)] >= 70


@given(st.integers())
def test_freezes_are_clearly_shorter_or_longer_than_the_lease(seed: int) -> None:
    for blow in blows(seed):
        if blow.action == "freeze":
            assert blow.seconds < 5 / 3
        elif blow.action == "freeze past the lease":
            assert blow.seconds > 5
