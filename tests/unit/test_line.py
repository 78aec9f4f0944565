"""The line of a queue: kept between looks, begun anew in time, shared by several workers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest

from raincheck.engine import line as lines
from raincheck.engine.line import KEPT, MISSES, PAGE, ROUNDS, Line
from raincheck.engine.repository import Walk
from raincheck.operations.operation import Operation, State
from raincheck.operations.store import Filter
from raincheck.stores.memory import MemoryStore
from raincheck.testing.material import make_operation

WAITING = Filter(states=frozenset({State.ACCEPTED}))


class Looked(MemoryStore):
    """Counts how often it was searched."""

    looks = 0

    def find(
        self, which: Filter, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[Operation], str | None]:
        self.looks += 1
        return super().find(which, limit=limit, cursor=cursor)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("raincheck.engine.line.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def store() -> Looked:
    return Looked()


@pytest.fixture
def line(store: Looked) -> Line:
    def walks(page: int) -> Iterator[Walk]:
        yield Walk(store, WAITING, page)

    return Line(walks)


def fill(store: Looked, names: Iterator[str]) -> list[str]:
    return [
        store.create(make_operation(name, state=State.ACCEPTED, created=float(n))).id
        for n, name in enumerate(names)
    ]


def named(number: int) -> Iterator[str]:
    return (f"{n:03}" for n in range(number))


def test_all_that_waits_comes_in_order_whatever_the_page(store: Looked, line: Line) -> None:
    ids = fill(store, named(2 * PAGE + 1))
    assert list(line.each()) == ids


def test_the_next_look_goes_on_where_the_last_has_stopped(
    store: Looked, line: Line, now: list[float]
) -> None:
    ids = fill(store, named(PAGE))
    found = [next(line.each()) for _ in ids]
    assert (found, store.looks) == (ids, 1)


def test_a_look_that_comes_to_the_end_begins_again_at_the_head(
    store: Looked, line: Line, now: list[float]
) -> None:
    ids = fill(store, named(3))
    assert list(islice(line.each(), 2)) == ids[:2]
    assert list(line.each()) == [ids[2], *ids]


def test_what_has_come_back_to_the_head_is_found_soon(
    store: Looked, line: Line, now: list[float]
) -> None:
    fill(store, named(3))
    assert next(line.each()) == "000"
    now[0] += KEPT
    assert next(line.each()) == "000"


def test_who_meets_others_goes_on_elsewhere_in_the_page(
    store: Looked, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fill(store, named(9))
    monkeypatch.setattr(lines._CHANCE, "random", lambda: 0.5)
    waiting = line.each()
    assert next(waiting) == ids[0]
    line.miss()
    assert list(waiting) == [*ids[5:], *ids[1:5]]


def test_who_meets_many_others_looks_anew_but_not_for_ever(store: Looked, line: Line) -> None:
    fill(store, named(PAGE))
    for _ in line.each():
        line.miss()
    assert store.looks == ROUNDS
    assert MISSES < PAGE
