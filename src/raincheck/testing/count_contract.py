"""The part of the store contract that is about counting: it agrees with `find`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raincheck.engine.repository import Repository
from raincheck.operations.operation import CLAIMED, IN_FLIGHT, Operation, State
from raincheck.operations.store import Filter, Store
from raincheck.testing.material import changed, forgotten, make_operation

_OURS: dict[str, Any] = {"owner": "ann", "application": "ours\n/api"}


def _some() -> list[Operation]:
    return [
        make_operation("a", **_OURS, worker="w", lease=100.0),
        make_operation("b", **_OURS | {"application": "ours"}, state=State.ACCEPTED),
        make_operation("c", **_OURS | {"application": "theirs\n/api"}, worker="v"),
        make_operation("d", application="ours\n", worker="w", state=State.CANCELLING),
        make_operation("e", **_OURS, state=State.SUCCEEDED, expires=200.0),
        replace(forgotten("f", expires=300.0), **_OURS),
    ]


class CountContract:
    """What `count` and `workers` promise, where there are any: else `find` does it."""

    @pytest.mark.parametrize(
        ("which", "expected"),
        [
            (Filter(), 6),
            (Filter(states=IN_FLIGHT), 4),
            (Filter(states=IN_FLIGHT, owner="ann"), 3),
            (Filter(states=IN_FLIGHT, owner="ann", application="ours"), 2),
            (Filter(states=IN_FLIGHT, owner="ann", application="our"), 0),
            (Filter(states=IN_FLIGHT, owner="", application="ours"), 0),
            (Filter(states=IN_FLIGHT, application="ours"), 3),
            (Filter(states=CLAIMED, worker="w"), 2),
            (Filter(states=frozenset({State.CANCELLING}), worker="w"), 1),
            (Filter(states=frozenset()), 0),
            (Filter(expires_before=300.0), 2),
            (Filter(expires_before=300.0, forgotten=False), 1),
            (Filter(lease_before=100.0), 1),
        ],
    )
    def test_as_many_are_counted_as_are_found(
        self, store: Store, which: Filter, expected: int
    ) -> None:
        for operation in _some():
            store.create(operation)
        repository = Repository(store)
        assert repository.count(which, 100) == expected
        assert len(list(repository.find_all(which))) == expected
        assert repository.count(which, 1) == min(1, expected)

    def test_a_change_is_counted_at_once(self, store: Store) -> None:
        repository, mine = (
            Repository(store),
            Filter(states=IN_FLIGHT, owner="ann", application="ours"),
        )

        def counts() -> tuple[int, int]:
            return repository.count(Filter(states=IN_FLIGHT), 9), repository.count(mine, 9)

        nobodys = store.create(replace(_some()[0], owner=None))
        seen = [counts()]
        owned = changed(nobodys, owner="ann")
        for old, new in (
            (nobodys, owned),
            (owned, changed(owned, state=State.ACCEPTED, worker=None, lease=None)),
        ):
            assert store.swap(old, new)
            seen.append(counts())
        assert store.swap(new, changed(new, state=State.FAILED, expires=9e9))
        assert [*seen, counts()] == [(1, 0), (1, 1), (1, 1), (0, 0)]

    def test_a_swap_that_is_refused_is_not_counted(self, store: Store) -> None:
        repository, running = Repository(store), Filter(states=CLAIMED, worker="w")
        old = store.create(make_operation(worker="v"))
        assert store.swap(old, changed(old, lease=5.0))
        assert not store.swap(old, changed(old, worker="w", owner="ann"))
        assert repository.count(running, 9) == 0
        assert repository.count(Filter(states=IN_FLIGHT, owner="ann", application=""), 9) == 0

    def test_who_runs_something_is_known(self, store: Store) -> None:
        for operation in _some():
            store.create(operation)
        assert Repository(store).workers() >= {"w", "v"}
