"""Webhooks are told in turns that are fair to receivers and owners, whatever these do."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest

from raincheck.engine.webhooks.shares import PUT_OFF, REMEMBERED, SLOW, Shares
from raincheck.operations.operation import Operation
from tests.webhooks.receivers import ended

MOST = 8


@pytest.fixture
def shares() -> Shares:
    return Shares(MOST)


def due(n: int, host: str = "a.test", owner: str | None = None) -> Operation:
    return replace(ended(f"https://{host}/hook", 0.0, f"{n:016}-{host}"), owner=owner)


def taken(shares: Shares, holding: ExitStack, operations: list[Operation]) -> int:
    """Begin as many deliveries as may be made at once."""
    return sum(holding.enter_context(shares.taken(operation)) for operation in operations)


def test_a_receiver_has_a_quarter_of_the_threads(shares: Shares) -> None:
    with ExitStack() as holding:
        assert taken(shares, holding, [due(n) for n in range(60)]) == MOST // 4
        assert not shares.fits(due(99))
        for other in (due(1, "b.test"), due(1, "a.test:8443"), due(98, owner="another")):
            assert shares.fits(other)
    assert shares.fits(due(99))


def test_an_owner_has_half_of_the_threads_however_many_receivers_it_names(shares: Shares) -> None:
    with ExitStack() as holding:
        greedy = [due(n, f"{n}.test", "greedy") for n in range(60)]
        assert taken(shares, holding, greedy) == MOST // 2
        assert shares.fits(due(1, "0.test", "modest"))


def test_nothing_is_told_twice_at_once(shares: Shares) -> None:
    with shares.taken(due(1)) as first, shares.taken(due(1)) as second:
        assert (first, second) == (True, False)


def test_who_does_not_answer_is_told_one_thing_at_a_time_and_the_rest_is_put_off(
    shares: Shares,
) -> None:
    for times, seconds in enumerate((*PUT_OFF, PUT_OFF[-1])):
        shares.note(due(0), SLOW + 1, has_answered=False)
        assert shares.put_off(due(1)) is None, times  # or nobody would find out
        with shares.taken(due(0)):
            assert not shares.fits(due(1))
            assert shares.put_off(due(0)) is None
            assert shares.put_off(due(1)) == seconds
            assert shares.put_off(due(1, "b.test")) is None
    shares.note(due(0), SLOW + 1, has_answered=True)
    with shares.taken(due(0)):
        assert shares.fits(due(1))
        assert shares.put_off(due(1)) is None


def test_who_fails_at_once_keeps_no_thread_and_is_not_put_off(shares: Shares) -> None:
    shares.note(due(0), 0.1, has_answered=False)
    with shares.taken(due(0)):
        assert shares.put_off(due(1)) is None


def test_all_that_do_not_answer_have_half_of_the_threads(shares: Shares) -> None:
    silent = [due(n, f"{n}.test") for n in range(60)]
    for each in silent:
        shares.note(each, SLOW + 1, has_answered=False)
    with ExitStack() as holding:
        assert taken(shares, holding, silent) == MOST // 2


def test_hostile_receivers_fill_no_memory(shares: Shares) -> None:
    for n in range(2 * REMEMBERED):
        shares.note(due(n, f"{n}.test"), SLOW + 1, has_answered=False)
    assert len(shares._trouble) == REMEMBERED
