"""What the Redis store keeps under which keys, what it leaves, and what it tells."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.contracts import REQUEST_FENCE, Filter
from raincheck.errors import StoreError
from raincheck.http.messages import Request
from raincheck.operations.operation import CLAIMED, IN_FLIGHT, TERMINAL, Operation, Progress, State
from raincheck.stores.redis import NET, RedisStore
from raincheck.stores.redis.names import Entry, quoted, to_bytes, to_text, unquoted
from raincheck.testing import Clock
from raincheck.testing.material import (
    HOUR,
    changed,
    forgotten,
    hears,
    ids,
    in_forks,
    make_operation,
)
from tests.stores.redis.keys import Keys, opened

pytestmark = pytest.mark.server
ACTIVE = frozenset({State.ACCEPTED, State.RUNNING, State.CANCELLING})


# --- keys --------------------------------------------------------------------------------------


def test_nothing_is_left_once_everything_is_purged(
    store: RedisStore, keys: Keys, clock: Clock
) -> None:
    for n in range(3):
        done = store.create(make_operation(f"{n}", owner="ann"), Request("GET", "/"), f"key {n}")
        for chunk in range(3):
            store.write_chunk(done.id, 1, chunk, b"x")
        done_ = changed(done, state=State.SUCCEEDED, expires=5.0)
        assert store.swap(done, done_)
        assert store.swap(done_, changed(done_, forgotten=True, expires=1000.0))
    store.create(make_operation("duplicate", owner="bob"), Request("GET", "/"), "key 0")
    assert store.purge(1000.0) == 3
    assert store.find(Filter(states=ACTIVE)) == ([], None)
    assert keys.all() == {keys.names.bodies}
    clock.now += 2 * HOUR
    store.purge(1000.0)
    assert keys.all() == set()


def test_a_body_of_very_many_chunks_goes_with_its_operation(store: RedisStore, keys: Keys) -> None:
    for id in ("discarded", "purged"):
        store.create(forgotten(id))
        for n in range(1200):
            store.write_chunk(id, 1, n, b"x")
    store.discard("discarded")
    assert store.purge(1000.0) == 2
    assert not [key for key in keys.all() if ":chunk" in key]


def test_other_prefixes_are_other_stores(keys: Keys) -> None:
    prefixes = ["", ":owner", ":dedupe", ":all", ":a"]
    stores = [RedisStore(f"{keys.url}{prefix}") for prefix in prefixes]
    for n, store in enumerate(stores):
        for id in ("a", "all", f"{n}"):
            kept = store.create(make_operation(id, owner=f"all {n}"), dedupe=f"all {id}")
            assert kept.owner == f"all {n}"
    for n, store in enumerate(stores):
        assert ids(store.find(Filter())[0]) == sorted(("a", "all", f"{n}"))
        assert len(store.find(Filter(owner=f"all {n}"))[0]) == 3
        store.close()


# --- what an older raincheck wrote, and what nobody need read ------------------------------------


def as_an_older_raincheck(keys: Keys, operation: Operation) -> None:
    """Leave an operation in the indexes that there were before, and in no others."""
    indexes = {keys.names.all, keys.names.active, keys.names.expiring}
    for key in keys.all():
        if key not in indexes and not key.startswith("{"):
            keys.client.unlink(key)
    for entry in keys.names.entries(operation):
        if entry.key in indexes:
            keys.client.execute_command(*entry.add())  # type: ignore[no-untyped-call]  # says none


def test_what_an_older_raincheck_runs_is_found_and_counted(store: RedisStore, keys: Keys) -> None:
    running = make_operation("a", lease=5.0, worker="w", owner="ann", application="ours\n")
    store.create(running)
    as_an_older_raincheck(keys, running)
    with closing(RedisStore(keys.url)) as new:
        assert new.find(Filter(states=CLAIMED, lease_before=5.0)) == ([running], None)
        mine = Filter(states=IN_FLIGHT, owner="ann", application="ours")
        assert (new.count(mine, 9), new.count(Filter(states=IN_FLIGHT), 9)) == (1, 1)


def test_what_an_older_raincheck_has_ended_or_forgotten_is_in_nobodys_way(
    store: RedisStore, keys: Keys
) -> None:
    ended = changed(make_operation("a"), state=State.FAILED, expires=9e9)
    store.create(ended)
    gone = forgotten("b", expires=5.0)
    store.create(gone)
    as_an_older_raincheck(keys, gone)
    for index in (keys.names.active, keys.names.leases):
        keys.client.zadd(index, {b"a" if index == keys.names.active else b"1000.0 a": 1000.0})
    assert store.find(Filter(states=CLAIMED, lease_before=9e9)) == ([], None)
    assert store.count(Filter(states=IN_FLIGHT), 9) == 0
    assert store.find(Filter(states=TERMINAL, expires_before=9.0, forgotten=False)) == ([], None)
    assert store.purge(9.0) == 1


def test_a_beat_reads_no_record_of_what_is_not_to_be_stopped(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        store.create(make_operation(f"{n}", worker="w", lease=9e9))
    read: list[Any] = []

    def note(entries: list[Entry]) -> list[list[bytes | None]]:
        read.extend(entries)
        return [[None, None]] * len(entries)

    monkeypatch.setattr(store._indexes, "_documents", note)
    store.find(Filter(states=frozenset({State.CANCELLING}), worker="w"))
    store.find(Filter(states=CLAIMED, lease_before=5.0))
    store.find(Filter(states=frozenset({State.ACCEPTED})))
    assert store.count(Filter(states=IN_FLIGHT), 9) == 5
    assert read == []


# --- what the server deletes by itself ---------------------------------------------------------


def test_a_running_operation_has_no_expiry(store: RedisStore, keys: Keys) -> None:
    old = store.create(make_operation(), Request("GET", "/"), "key")
    store.write_chunk("a", 1, 0, b"x")
    store.swap(old, changed(old, lease=5000.0))
    assert {keys.client.pttl(key) for key in keys.all()} == {-1}


def test_all_keys_of_an_ended_operation_expire_8_days_after_its_promise(
    store: RedisStore, keys: Keys
) -> None:
    store.write_chunk("a", REQUEST_FENCE, 0, b"x")
    old = store.create(make_operation(), Request("GET", "/"), "key")
    store.write_chunk("a", 1, 0, b"x")
    expires = time.time() + HOUR
    store.swap(old, changed(old, state=State.SUCCEEDED, expires=expires))
    store.write_chunk("a", 1, 1, b"of a process that did not know")
    names = keys.names
    own = {names.record("a"), names.chunk_list("a"), names.dedupe("key")}
    own |= {names.chunk("a", chunk) for chunk in ("0:0", "1:0", "1:1")}
    for key in own:
        assert keys.client.pttl(key) / 1000 == pytest.approx(HOUR + NET, abs=60), key
    others = keys.all() - own
    assert {keys.client.pttl(key) for key in others} == {-1}


def test_what_the_server_deleted_by_itself_leaves_nothing(store: RedisStore, keys: Keys) -> None:
    store.create(forgotten("a"))
    store.create(make_operation("b"))
    for id in ("a", "b"):
        keys.client.unlink(keys.names.record(id))
    assert store.find(Filter(states=ACTIVE)) == ([], None)
    assert store.purge(2000.0) == 0
    assert keys.all() == set()


# --- names -------------------------------------------------------------------------------------


@given(st.text(st.characters()))  # lone surrogates included
def test_any_text_is_quoted_so_that_no_other_is_the_same(text: str) -> None:
    assert unquoted(quoted(text).encode("ascii")) == text
    assert not set(quoted(text)) & set("{}=: ")


@given(st.lists(st.text(st.characters())))
def test_bytes_sort_as_their_texts(texts: list[str]) -> None:
    assert [to_text(data) for data in sorted(map(to_bytes, texts))] == sorted(texts)


def test_an_id_of_raincheck_stays_as_it_is() -> None:
    assert quoted("0123456789abcdef" * 2) == "0123456789abcdef" * 2


def test_keys_of_another_kind_are_an_error_that_names_no_id(store: RedisStore, keys: Keys) -> None:
    id = "secret" * 5
    keys.client.set(keys.names.record(id), "something else")
    calls: list[Callable[[], object]] = [
        lambda: store.create(make_operation(id)),
        lambda: store.get(id),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="holds something else") as caught:
            call()
        assert id not in f"{caught.value} {caught.value.__cause__}"


def test_a_server_may_forget_its_scripts(store: RedisStore, keys: Keys) -> None:
    store.create(make_operation("a"))
    keys.client.execute_command("SCRIPT FLUSH")  # type: ignore[no-untyped-call]  # says none
    store.create(make_operation("b"))
    assert ids(store.find(Filter())[0]) == ["a", "b"]


# --- hints -------------------------------------------------------------------------------------


def test_a_renewed_lease_is_not_told_but_progress_is(store: RedisStore) -> None:
    old = store.create(make_operation("a", lease=1.0))
    with closing(store.watch(0.05)) as watch:
        next(watch)
        renewed = changed(old, lease=2.0)
        store.swap(old, renewed)
        assert next(watch) is None
        store.swap(renewed, changed(renewed, lease=3.0, progress=Progress(1.0)))
        assert hears(watch, "a")


@pytest.mark.parametrize("id", ["{", "}{", "%", "a b", "\x00", "ü日", "\ud800", "x" * 1000])
def test_an_id_of_any_text_is_told_and_found_as_it_is(store: RedisStore, id: str) -> None:
    with closing(store.watch(0.05)) as watch:
        next(watch)
        store.create(make_operation(id, expires=5.0))
        assert hears(watch, id)
    for which in (Filter(), Filter(states=ACTIVE), Filter(expires_before=5.0)):
        assert ids(store.find(which)[0]) == [id]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_watches_in_two_processes_hear_within_milliseconds(keys: Keys) -> None:
    """How many is printed and not tested: that depends on what else the machine does."""
    done = threading.Event()

    def create() -> None:
        with opened(keys.url) as store:
            while not done.wait(0.01):
                store.create(make_operation(f"{time.monotonic()}"))

    def listen(_: int) -> int:
        with opened(keys.url) as store, closing(store.watch(0.05)) as watch:
            heard = (id for id in watch if id is not None)
            created = (float(next(heard)) for _ in range(50))
            delays = [-moment + time.monotonic() for moment in created]
        print(f"heard after {statistics.median(delays) * 1000:.1f} ms")  # noqa: T201
        return len(delays)

    creator = threading.Thread(target=create)
    creator.start()
    try:
        assert in_forks(2, listen) == [50, 50]
    finally:
        done.set()
        creator.join()


# --- many processes ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_of_4_processes_that_swap_500_operations_exactly_one_wins_each(keys: Keys) -> None:
    with opened(keys.url) as store:
        operations = [store.create(make_operation(f"{n:03}")) for n in range(500)]

        def swap(i: int) -> int:
            for old in operations:
                if store.swap(old, changed(old, worker=f"{i}")):
                    store.write_chunk(old.id, 1, i, b"won")
            return 0

        assert in_forks(4, swap) == [0] * 4
        for operation in store.find(Filter(), limit=1000)[0]:
            won = set(keys.client.smembers(keys.names.chunk_list(operation.id)))
            assert won == {f"1:{operation.worker}".encode()}
            assert operation.version == 2


@pytest.mark.slow
def test_greenlets_go_on_while_a_store_waits(keys: Keys) -> None:
    code = f"""
from gevent import monkey; monkey.patch_all()
import time, gevent
from contextlib import closing
from raincheck.stores.redis import RedisStore
from raincheck.testing.material import make_operation
store = RedisStore({keys.url!r})
with closing(store.watch(30)) as watch:
    next(watch)
    gevent.spawn_later(0.1, store.create, make_operation("a"))
    print(next(watch))
store.close()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert ran.stdout.split() == [b"a"]
