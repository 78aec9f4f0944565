"""The part of the store contract that is about values which are no operations."""

from __future__ import annotations

import secrets

import pytest

from raincheck.operations.store import KEPT_AGE, Keeping, Store
from raincheck.testing.material import Clock, in_forks, in_threads, settable

LARGE = bytes(range(256)) * 1024


class KeepContract:
    """What `recall` and `keep` promise, where there are any: else processes learn alone."""

    @pytest.fixture
    def keeping(self, store: Store) -> Keeping:
        """Return the store, or skip what it need not do."""
        if not isinstance(store, Keeping):
            pytest.skip("this store is not `Keeping`")
        return store

    def test_nothing_is_recalled_that_was_not_kept(self, keeping: Keeping) -> None:
        assert keeping.recall("a") is None
        assert keeping.keep("b", None, b"1")
        assert keeping.recall("a") is None

    @pytest.mark.parametrize("value", [b"", b"\0\xff\n", LARGE], ids=["none", "any", "large"])
    def test_what_was_kept_is_recalled(self, keeping: Keeping, value: bytes) -> None:
        name = "durations:" + "0" * 90
        assert keeping.keep(name, None, value)
        assert keeping.recall(name) == value
        assert keeping.keep(name, value, b"next")
        assert keeping.recall(name) == b"next"

    @pytest.mark.parametrize("old", [None, b"", b"0"])
    def test_a_value_is_kept_in_place_of_the_one_that_was_recalled_only(
        self, keeping: Keeping, old: bytes | None
    ) -> None:
        assert not keeping.keep("a", b"0", b"1")
        assert keeping.recall("a") is None
        assert keeping.keep("a", None, b"2")
        assert not keeping.keep("a", old, b"1")
        assert keeping.recall("a") == b"2"

    def test_an_empty_value_is_one(self, keeping: Keeping) -> None:
        assert not keeping.keep("a", b"", b"1")
        assert keeping.keep("a", None, b"")
        assert not keeping.keep("a", None, b"1")
        assert keeping.keep("a", b"", b"1")

    def test_a_value_may_be_kept_again_as_an_answer_may_be_lost(self, keeping: Keeping) -> None:
        assert keeping.keep("a", None, b"1")
        assert keeping.keep("a", None, b"1")
        assert keeping.keep("a", b"1", b"2")
        assert keeping.keep("a", b"1", b"2")
        assert keeping.recall("a") == b"2"

    def test_of_several_threads_each_has_its_turn(self, keeping: Keeping) -> None:
        in_threads(4, lambda n: _count(keeping, 10))
        assert (keeping.recall("count") or b"").startswith(b"40 ")

    def test_of_several_processes_each_has_its_turn(self, keeping: Keeping, shared: bool) -> None:
        if not shared:
            pytest.skip("no other process sees this store")
        assert in_forks(2, lambda n: _count(keeping, 10)) == [0, 0]
        assert (keeping.recall("count") or b"").startswith(b"20 ")

    def test_a_purge_leaves_what_was_kept_of_late(
        self, store: Store, keeping: Keeping, clock: Clock | None
    ) -> None:
        time = settable(clock)
        assert keeping.keep("a", None, b"1")
        time.now += KEPT_AGE - 60
        store.purge(time.now)
        assert keeping.recall("a") == b"1"


def _count(keeping: Keeping, times: int) -> int:
    for _ in range(times):
        while True:
            old = keeping.recall("count")
            count = int((old or b"0").partition(b" ")[0]) + 1
            if keeping.keep("count", old, b"%d %s" % (count, secrets.token_bytes(8))):
                break
    return 0
