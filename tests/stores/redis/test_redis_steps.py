"""What the Redis store does in steps: others come between them, or a process is killed there.

What a killed process had done is done here by hand.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from raincheck.contracts import REQUEST_FENCE, Filter
from raincheck.errors import BodyMissing
from raincheck.http.messages import Request
from raincheck.operations.operation import CLAIMED, IN_FLIGHT, TERMINAL, Operation, State
from raincheck.operations.records import encode
from raincheck.stores.redis import RedisStore
from raincheck.stores.redis.names import Command, Entry
from raincheck.stores.redis.scripts import SWAP_AND_DROP
from raincheck.testing import Clock
from raincheck.testing.material import HOUR, changed, forgotten, ids, in_threads, make_operation
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
    assert len(keys.all()) == 5
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


def kill_creation(keys: Keys, led_to: bytes) -> Operation:
    """Leave what a creation leaves that is killed before it confirms; return what it prepared."""
    operation = make_operation("a")
    index_only(keys, operation)
    prepared = {"prepared v": "1", "prepared d": encode(operation), "k": "key", "r": "{}"}
    for field, value in prepared.items():
        keys.client.hset(keys.names.record("a"), field, value)
    if led_to:
        keys.client.set(keys.names.dedupe("key"), led_to)
    return operation


@pytest.mark.parametrize("led_to", [b"", b"a"], ids=("before the key", "after the key"))
def test_a_creation_that_was_killed_is_finished_by_the_next_one_or_not_seen(
    store: RedisStore, keys: Keys, led_to: bytes
) -> None:
    operation = kill_creation(keys, led_to)
    assert store.get("a") is None
    assert store.read_request("a") is None
    assert not store.swap(operation, changed(operation))
    assert store.find(Filter()) == ([], None)
    kept = store.create(make_operation("b"), dedupe="key")
    assert kept.id == ("a" if led_to else "b")
    assert store.find(Filter(), limit=9)[0] == [kept]
    assert store.swap(kept, changed(kept))


@pytest.mark.parametrize("led_to", [b"", b"a"], ids=("before the key", "after the key"))
def test_a_creation_that_was_killed_counts_once_it_is_named_as_a_holder(
    store: RedisStore, keys: Keys, led_to: bytes
) -> None:
    operation = kill_creation(keys, led_to)
    expected = operation if led_to else None
    assert store.holder("key") == expected
    assert store.get("a") == expected
    kept = store.create(make_operation("b"), dedupe="key")
    assert kept.id == ("a" if led_to else "b")
    assert store.holder("key") == kept


def test_a_dedupe_key_whose_operation_is_gone_has_no_holder(store: RedisStore, keys: Keys) -> None:
    store.create(make_operation("gone"), dedupe="key")
    keys.client.unlink(keys.names.record("gone"))
    assert store.holder("key") is None


def test_a_purge_frees_no_dedupe_key_that_another_operation_has(
    store: RedisStore, keys: Keys
) -> None:
    store.create(forgotten("a"), dedupe="key")
    keys.client.set(keys.names.dedupe("key"), "b")
    store.create(make_operation("b"), dedupe="key")
    assert store.purge(1000.0) == 1
    assert store.create(make_operation("c"), dedupe="key").id == "b"


# --- dropping ------------------------------------------------------------------------------------


def ended(operation: Operation) -> Operation:
    return changed(operation, state=State.SUCCEEDED, expires=9e9)


@pytest.fixture
def left(store: RedisStore, keys: Keys) -> Operation:
    """Drop a dedupe key as who is killed before the key leads nowhere; return what was before.

    The same is left by a `create` whose answer was lost, and that is repeated after the swap.
    """
    old = store.create(make_operation("a"), dedupe="key")
    assert store.swap(old, ended(old), drop_dedupe=True)
    assert keys.client.get(keys.names.dedupe("key")) is None
    keys.client.set(keys.names.dedupe("key"), "a")
    return old


def test_a_key_that_leads_to_who_has_dropped_it_is_the_next_ones(
    store: RedisStore, keys: Keys, left: Operation
) -> None:
    assert store.holder("key") is None
    kept = in_threads(8, lambda i: store.create(make_operation(f"{i}"), dedupe="key"))
    assert len(set(ids(kept))) == 1
    assert sorted(ids(store.find(Filter())[0])) == sorted(["a", kept[0].id])
    assert store.swap(left, ended(left), drop_dedupe=True)
    assert keys.client.get(keys.names.dedupe("key")) == kept[0].id.encode()


def test_a_key_that_leads_to_who_has_dropped_it_goes_with_a_repeated_swap(
    store: RedisStore, keys: Keys, left: Operation
) -> None:
    assert store.swap(left, ended(left), drop_dedupe=True)
    assert keys.client.get(keys.names.dedupe("key")) is None


def test_a_key_that_leads_to_who_has_dropped_it_goes_with_the_purge(
    store: RedisStore, keys: Keys, left: Operation
) -> None:
    assert store.swap(ended(left), changed(ended(left), forgotten=True))
    assert store.purge(9e9) == 1
    assert store.find(Filter(states=ACTIVE)) == ([], None)
    assert keys.all() == set()


@pytest.mark.slow
def test_a_body_of_very_many_chunks_is_dropped_in_one_step(store: RedisStore, keys: Keys) -> None:
    for n in range(10_000):  # more than Lua's stack would hold
        member = f"{REQUEST_FENCE}:{n}"
        keys.client.sadd(keys.names.chunk_list("a"), member)
        keys.client.set(keys.names.chunk("a", member), b"x")
    store.write_chunk("a", 1, 0, b"response")
    old = store.create(make_operation("a"), Request("POST", "/"))
    assert store.swap(old, ended(old), drop_request=True)
    assert [key for key in keys.all() if ":chunk:" in key] == [keys.names.chunk("a", "1:0")]
    assert keys.client.smembers(keys.names.chunk_list("a")) == {b"1:0"}


def test_a_chunk_that_comes_between_two_steps_is_dropped_too(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = store.create(make_operation("a"), Request("POST", "/"))
    store.write_chunk("a", REQUEST_FENCE, 0, b"x")
    seen: list[Any] = []
    run = store._run

    def run_and_write(script: str, *arguments: Any, **others: Any) -> Any:
        answer = run(script, *arguments, **others)
        if script == SWAP_AND_DROP and len(seen) < 3:
            seen.append(answer)
            store.write_chunk("a", REQUEST_FENCE, len(seen), b"x")
        return answer

    monkeypatch.setattr(store, "_run", run_and_write)
    assert store.swap(old, ended(old), drop_request=True)
    assert [len(answer) for answer in seen] == [1, 1, 1]
    for n in range(3):
        with pytest.raises(BodyMissing):
            next(store.read_chunks("a", REQUEST_FENCE, n, n + 1))


def test_without_drops_a_swap_takes_one_round_trip_and_with_them_one_for_each_step(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_chunk("a", REQUEST_FENCE, 0, b"x")
    first = store.create(make_operation("a"), Request("POST", "/"), "key")
    run, trips = store._server._run, []

    def count(work: Any) -> Any:
        trips.append(work)
        return run(work)

    monkeypatch.setattr(store._server, "_run", count)
    assert store.swap(first, second := changed(first, lease=9.0))
    assert len(trips) == 1
    assert store.swap(second, third := changed(second), drop_request=True)
    assert len(trips) == 3, "one to learn which chunks there are"
    assert store.swap(third, changed(third), drop_dedupe=True)
    assert len(trips) == 5, "one to let the key lead nowhere"


# --- what is looked for every few seconds --------------------------------------------------------


@pytest.mark.parametrize(
    "which",
    [Filter(states=frozenset({State.ACCEPTED})), Filter(states=TERMINAL, lease_before=9.0)],
    ids=("accepted", "due"),
)
def test_what_is_often_looked_for_is_found_however_many_have_ended(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, which: Filter
) -> None:
    wanted = [
        make_operation("waiting", state=State.ACCEPTED),
        make_operation("due", state=State.FAILED, lease=9.0),
    ]
    for n in range(300):
        store.create(make_operation(f"{n}", state=State.SUCCEEDED, expires=9e9, owner="ann"))
    for operation in wanted:
        store.create(operation)
    looked_at: list[bytes] = []
    documents = store._indexes._documents

    def note(entries: list[Entry]) -> Any:
        looked_at.extend(entry.member for entry in entries)
        return documents(entries)

    monkeypatch.setattr(store._indexes, "_documents", note)
    assert store.find(which)[0] == [operation for operation in wanted if which.matches(operation)]
    assert len(looked_at) == 1


def test_what_is_no_longer_due_is_let_go_of(store: RedisStore, keys: Keys) -> None:
    due = Filter(states=TERMINAL, lease_before=9.0)
    for id in ("done", "changes", "purged"):
        store.create(make_operation(id, state=State.FAILED, lease=1.0, expires=9e9))
    running = store.create(make_operation("ends"))
    index_only(keys, replace(ended(running), lease=1.0))  # and will swap in a moment
    for id, change in (("done", {"lease": None}), ("changes", {"lease": 99.0})):
        old = store.get(id)
        assert old is not None
        assert store.swap(old, changed(old, **change))
    old = store.get("purged")
    assert old is not None
    assert store.swap(old, changed(old, forgotten=True, lease=None, expires=5.0))
    assert store.purge(5.0) == 1
    assert store.find(due) == ([], None)
    assert keys.client.zrange(keys.names.due, 0, -1) == [b"changes", b"ends"]


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

    def after(
        first: list[Command], last: Command, again: list[Command], later: list[Command]
    ) -> object:
        store._server.commands(first)
        found = [store.find(index)[0] for index in EVERY_INDEX] if first else []
        assert not any(found)
        answer = store._server.command(*last)
        store._server.commands([*again, *later])
        return answer

    monkeypatch.setattr(store._server, "after", after)
    store.create(operation, dedupe=dedupe)
    assert [store.find(index)[0] for index in EVERY_INDEX] == [[operation]] * 3


def test_a_change_that_comes_too_late_takes_nothing_out_of_the_indexes(store: RedisStore) -> None:
    """Even where both would have left the operation with the same version."""
    waiting = store.create(make_operation("a", state=State.ACCEPTED))
    claimed = changed(waiting, state=State.RUNNING, worker="w", lease=2000.0, fence=1)
    cancelled = changed(waiting, state=State.CANCELLED, expires=5000.0)
    assert store.swap(waiting, claimed)
    assert not store.swap(waiting, cancelled)
    assert store.find(Filter(states=frozenset({State.RUNNING})))[0] == [claimed]
    assert store.find(Filter(states=CLAIMED, lease_before=3000.0))[0] == [claimed]
    assert store.count(Filter(states=IN_FLIGHT), 10) == 1
    assert store.find(Filter(states=frozenset({State.ACCEPTED})))[0] == []
