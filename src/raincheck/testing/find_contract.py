"""The part of the store contract that is about `find`: its filter, its order and its pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from raincheck.operations.operation import TERMINAL, Operation, Progress, Result, State
from raincheck.operations.store import Filter, Store
from raincheck.testing.material import changed, forgotten, ids, make_operation


class FindContract:
    """What `find` promises."""

    @pytest.mark.parametrize(
        ("which", "expected"),
        [
            (Filter(), "abcde"),
            (Filter(states=frozenset({State.RUNNING})), "a"),
            (Filter(states=frozenset({State.RUNNING, State.CANCELLING})), "ae"),
            (Filter(states=frozenset()), ""),
            (Filter(owner="ann"), "ac"),
            (Filter(owner="an"), ""),
            (Filter(owner=""), ""),
            (Filter(worker="w"), "a"),
            (Filter(queue="q"), "ad"),
            (Filter(queue=""), "bce"),
            (Filter(states=frozenset({State.ACCEPTED}), queue="q", lease_before=50.0), "d"),
            (Filter(lease_before=100.0), "ad"),
            (Filter(lease_before=49.9), ""),
            (Filter(lease_before=150.0), "ade"),
            (Filter(expires_before=200.0), "b"),
            (Filter(expires_before=300.0), "bc"),
            (Filter(forgotten=True), "c"),
            (Filter(forgotten=False), "abde"),
            (Filter(owner="ann", forgotten=True), "c"),
            (Filter(owner="ann", queue="q", worker="w", lease_before=100.0), "a"),
        ],
    )
    def test_a_filter_finds_what_meets_all_its_conditions(
        self, store: Store, which: Filter, expected: str
    ) -> None:
        """In order of creation; `Filter.matches` says what meets the conditions."""
        for operation in (
            make_operation("e", created=5.0, state=State.CANCELLING, worker="v", lease=150.0),
            make_operation("d", created=4.0, state=State.ACCEPTED, queue="q", lease=50.0),
            make_operation("a", created=1.0, owner="ann", worker="w", queue="q", lease=100.0),
            make_operation("b", created=2.0, state=State.SUCCEEDED, owner="bob", expires=200.0),
            replace(forgotten("c", expires=300.0), created=3.0, owner="ann"),
        ):
            store.create(operation)
        assert "".join(ids(store.find(which)[0])) == expected

    def test_what_is_found_is_whole(self, store: Store) -> None:
        operation = make_operation(
            progress=Progress(1, 2, "half"),
            webhook="https://example.com/ü",
            deliveries=3,
            polled=999.5,
            result=Result(200, ((b"x-bytes", b"\xff"),), length=1, chunk_size=2, fence=3),
            unknown={"colour": "blue"},
        )
        store.create(operation)
        assert store.find(Filter()) == ([operation], None)

    def test_a_filter_sees_what_a_swap_has_changed(self, store: Store) -> None:
        old = store.create(make_operation(owner="ann", lease=1.0))
        store.swap(old, changed(old, state=State.FAILED, lease=None, expires=5.0))
        assert store.find(Filter(lease_before=9.0)) == ([], None)
        failed = frozenset({State.FAILED})
        assert ids(store.find(Filter(states=failed, expires_before=5.0, owner="ann"))[0]) == ["a"]

    def test_what_is_due_after_its_end_is_found_until_it_is_done(self, store: Store) -> None:
        """An operation that has ended may have a lease, as somebody is still to be told of it."""
        store.create(make_operation("running", lease=1.0))
        store.create(make_operation("told", state=State.FAILED, expires=9e9))
        old = store.create(make_operation("a", lease=1.0, owner="ann"))

        def due(now: float, owner: str | None = None) -> list[str]:
            which = Filter(states=TERMINAL, lease_before=now, owner=owner)
            return ids(store.find(which)[0])

        for lease in (100.0, 200.0, None, 300.0):
            new = changed(old, state=State.SUCCEEDED, expires=9e9, lease=lease)
            assert store.swap(old, new)
            assert due(9e9) == ([] if lease is None else ["a"])
            assert due(9e9, owner="bob") == []
            if lease is not None:
                assert due(lease) == due(lease, owner="ann") == ["a"]
                assert due(lease - 0.1) == []
            old = new
        succeeded = frozenset({State.SUCCEEDED})
        assert ids(store.find(Filter(states=succeeded, lease_before=300.0))[0]) == ["a"]
        assert ids(store.find(Filter(lease_before=1.0))[0]) == ["running"]
        assert ids(store.find(Filter(states=frozenset(State), lease_before=9e9))[0]) == [
            "a",
            "running",
        ]

    @pytest.mark.parametrize(
        "created",
        [lambda n: n / 3, lambda n: n // 3, lambda n: 1000.1],
        ids=("distinct", "some equal", "all equal"),
    )
    def test_a_cursor_leads_through_all_in_order(
        self, store: Store, created: Callable[[int], float]
    ) -> None:
        """Each is found once, in order of creation; of those created at one time, by id."""
        wanted = [make_operation(f"{n:02} {n}", created=created(n)) for n in range(10)]
        for operation in reversed(wanted):
            store.create(operation)
            store.create(replace(operation, id=f"{operation.id} other", owner="other"))
        pages = _pages(store, Filter(forgotten=False), limit=8)
        assert [len(page) for page in pages] == [8, 8, 4]
        assert [o for page in pages for o in page if o.owner is None] == wanted

    @pytest.mark.parametrize("limit", [2, 100])
    def test_what_has_expired_comes_in_order_of_expiry(self, store: Store, limit: int) -> None:
        """So that who forgets it need not know what there is of it."""
        for n, expires in enumerate((50.0, 20.0, 30.0, 20.0, 90.0, 20.0)):
            ended = make_operation(f"{n}", created=9.0 - n, state=State.FAILED, expires=expires)
            store.create(ended)
        store.create(forgotten("forgotten", expires=1.0))
        store.create(make_operation("running"))
        expired = Filter(states=TERMINAL, expires_before=50.0, forgotten=False)
        found = [o for page in _pages(store, expired, limit) for o in page]
        assert [operation.expires for operation in found] == [20.0, 20.0, 20.0, 30.0, 50.0]
        assert sorted(ids(found)) == ["0", "1", "2", "3", "5"]

    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_operations_of_one_moment_are_all_found(self, store: Store, limit: int) -> None:
        for id in "cab":
            store.create(make_operation(id))
        found = [o for page in _pages(store, Filter(), limit) for o in page]
        assert ids(found) == ["a", "b", "c"]

    def test_a_page_that_holds_all_is_the_last(self, store: Store) -> None:
        for n in range(3):
            store.create(make_operation(f"{n}"))
        found, cursor = store.find(Filter(), limit=3)
        assert (ids(found), cursor) == (["0", "1", "2"], None)

    def test_changing_what_was_found_skips_nothing(self, store: Store) -> None:
        """Who recovers operations changes those of one page, then asks for the next one.

        The cursor is a place in the order, and no count of what came before it.
        """
        for n in range(9):
            store.create(make_operation(f"{n}", created=float(n)))
        running = Filter(states=frozenset({State.RUNNING}))
        found: list[str] = []
        cursor = None
        while not found or cursor is not None:
            page, cursor = store.find(running, limit=2, cursor=cursor)
            found += ids(page)
            for operation in page:
                assert store.swap(operation, changed(operation, state=State.FAILED))
            store.create(make_operation(f"late {len(found)}", created=0.5))
        assert found == [f"{n}" for n in range(9)]

    def test_purging_what_was_found_skips_nothing(self, store: Store) -> None:
        for n in range(6):
            store.create(replace(forgotten(f"{n}"), created=float(n)))
        page, cursor = store.find(Filter(), limit=3)
        assert ids(page) == ["0", "1", "2"]
        assert store.purge(1000.0, limit=6) == 6
        store.create(make_operation("new", created=9.0))
        assert ids(store.find(Filter(), limit=3, cursor=cursor)[0]) == ["new"]


def _pages(store: Store, which: Filter, limit: int) -> list[list[Operation]]:
    pages: list[list[Operation]] = []
    cursor = None
    while not pages or cursor is not None:
        page, cursor = store.find(which, limit=limit, cursor=cursor)
        pages.append(page)
        assert len(pages) < 100, "the cursor leads nowhere"
    return pages
