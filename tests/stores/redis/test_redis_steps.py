"""What the Redis store does in steps: others come between them, or a process is killed there.

What a killed process had done is done here by hand.
"""

from __future__ import annotations

import threading

import pytest

from raincheck.contracts import Filter
from raincheck.operation import Operation, State
from raincheck.records import encode
from raincheck.stores.redis import RedisStore
from raincheck.stores.redis.names import Command
from raincheck.testing import Clock
from raincheck.testing.material import (
    HOUR,
    changed,
    forgotten,
    ids,
    in_threads,
    make_operation,
)
from tests.stores.redis.keys import Keys

pytestmark = pytest.mark.server
ACTIVE = frozenset({State.ACCEPTED, State.RUNNING, State.CANCELLING})


# --- processes that are killed between two steps -----------------------------------------------


def index_only(keys: Keys, operation: Operation) -> None:
    """Do what a `create` has done that is killed before it writes the record."""
    for entry in keys.names.entries(operation):
        keys.client.execute_command(*entry.add())  # type: ignore[no-untyped-call]  # says none


def test_an_entry_without_a_record_is_left_for_an_hour_then_removed(
    store: RedisStore, keys: Keys, clock: Clock
) -> None:
    operation = make_operation("a", created=clock.now, owner="ann", expires=clock.now)
    index_only(keys, operation)
    for which in (Filter(), Filter(states=ACTIVE), Filter(owner="ann"), Filter(expires_before=9e9)):
        assert store.find(which) == ([], None)
    assert len(keys.all()) == 4
    clock.now += HOUR + 1
    for which in (Filter(), Filter(owner="ann"), Filter(expires_before=9e9)):
        assert store.find(which) == ([], None)
    assert keys.all() == set()


def test_an_operation_whose_entries_came_long_before_it_is_found(
    store: RedisStore, keys: Keys, clock: Clock
) -> None:
    operation = make_operation("a", created=clock.now)
    index_only(keys, operation)
    assert store.find(Filter(states=ACTIVE)) == ([], None)
    store.create(operation)
    assert store.find(Filter(states=ACTIVE)) == ([operation], None)


def test_a_swap_that_was_killed_before_it_changed_the_record_changes_nothing(
    store: RedisStore, keys: Keys
) -> None:
    old = store.create(forgotten("a", expires=1000.0))
    index_only(keys, changed(old, expires=500.0))
    assert store.purge(999.0) == 0
    assert store.find(Filter(expires_before=999.0)) == ([], None)
    assert store.find(Filter(expires_before=1000.0)) == ([old], None)
    assert store.purge(1000.0) == 1
    assert keys.all() == set()


def test_a_dedupe_key_whose_operation_is_gone_can_be_taken_once(
    store: RedisStore, keys: Keys
) -> None:
    store.create(make_operation("gone"), dedupe="key")
    keys.client.unlink(keys.names.record("gone"))
    kept = in_threads(8, lambda i: store.create(make_operation(f"{i}"), dedupe="key"))
    assert len(set(ids(kept))) == 1
    assert ids(store.find(Filter())[0]) == [kept[0].id]


@pytest.mark.parametrize("led_to", [b"", b"a"], ids=("before the key", "after the key"))
def test_a_creation_that_was_killed_is_finished_by_the_next_one_or_not_seen(
    store: RedisStore, keys: Keys, led_to: bytes
) -> None:
    operation = make_operation("a")
    index_only(keys, operation)
    prepared = {"prepared v": "1", "prepared d": encode(operation), "k": "key", "r": "{}"}
    for field, value in prepared.items():
        keys.client.hset(keys.names.record("a"), field, value)
    if led_to:
        keys.client.set(keys.names.dedupe("key"), led_to)
    assert store.get("a") is None
    assert store.read_request("a") is None
    assert not store.swap(operation, changed(operation))
    assert store.find(Filter()) == ([], None)
    kept = store.create(make_operation("b"), dedupe="key")
    assert kept.id == ("a" if led_to else "b")
    assert store.find(Filter(), limit=9)[0] == [kept]
    assert store.swap(kept, changed(kept))


def test_a_purge_frees_no_dedupe_key_that_another_operation_has(
    store: RedisStore, keys: Keys
) -> None:
    store.create(forgotten("a"), dedupe="key")
    keys.client.set(keys.names.dedupe("key"), "b")
    store.create(make_operation("b"), dedupe="key")
    assert store.purge(1000.0) == 1
    assert store.create(make_operation("c"), dedupe="key").id == "b"


# --- others that come between ---------------------------------------------------------------------


EVERY_INDEX = (Filter(), Filter(states=ACTIVE), Filter(owner="ann"))


@pytest.mark.parametrize("which", EVERY_INDEX, ids=("all", "active", "owner"))
def test_an_old_operation_made_again_while_its_entries_are_removed_is_found(
    store: RedisStore, keys: Keys, clock: Clock, which: Filter
) -> None:
    operation = make_operation("a", created=clock.now - 2 * HOUR, owner="ann")
    index_only(keys, operation)
    finding = threading.Thread(target=store.find, args=(which,), name="held")
    finding.start()
    assert clock.inside.wait(30)  # it has seen that there is no record
    store.create(operation)
    clock.go.set()
    finding.join(30)
    assert [store.find(index)[0] for index in EVERY_INDEX] == [[operation]] * 3


@pytest.mark.parametrize("dedupe", [None, "key"])
def test_an_old_operation_whose_entries_are_removed_before_it_is_made_again_is_found(
    store: RedisStore,
    keys: Keys,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    dedupe: str | None,
) -> None:
    """As others may find between the steps, which are two round trips in a cluster."""
    operation = make_operation("a", created=clock.now - 2 * HOUR, owner="ann")

    def after(first: list[Command], last: Command, again: list[Command]) -> object:
        store._server.commands(first)
        found = [store.find(index)[0] for index in EVERY_INDEX] if first else []
        assert not any(found)
        answer = store._server.command(*last)
        store._server.commands(again)
        return answer

    monkeypatch.setattr(store._server, "after", after)
    store.create(operation, dedupe=dedupe)
    assert [store.find(index)[0] for index in EVERY_INDEX] == [[operation]] * 3
