"""The part of the store contract that is about who uses it: watches, threads, forks, processes."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from raincheck.operations.operation import State
from raincheck.operations.store import Filter, Liveness, Store
from raincheck.testing.material import (
    MIB,
    Clock,
    changed,
    hears,
    in_forks,
    in_threads,
    make_operation,
    run_in_fork,
    settable,
)

may_fork = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


class SharingContract:
    """What `watch`, `now` and `close` promise, and what all calls do in threads and processes."""

    # --- watch -----------------------------------------------------------------------------

    def test_a_watch_hears_what_is_created_and_swapped(self, store: Store) -> None:
        """From its first None on, and within 10 s here; it should be milliseconds."""
        with closing(store.watch(0.05)) as watch:
            assert next(watch) is None
            old = store.create(make_operation("a"))
            assert hears(watch, "a")
            assert store.swap(old, changed(old, state=State.SUCCEEDED, updated=2000.0))
            assert hears(watch, "a")

    def test_a_watch_hears_other_threads_while_it_waits(self, store: Store) -> None:
        with closing(store.watch(0.05)) as watch:
            assert next(watch) is None
            timer = threading.Timer(0.2, store.create, [make_operation("a")])
            timer.start()
            assert hears(watch, "a")
            timer.join()

    @may_fork
    def test_a_watch_hears_other_processes(self, store: Store, shared: bool) -> None:
        _require(shared)
        with closing(store.watch(0.05)) as watch:
            assert next(watch) is None
            assert run_in_fork(lambda: store.create(make_operation("a")))
            assert hears(watch, "a")

    def test_a_watch_that_hears_nothing_says_so(self, store: Store) -> None:
        """It yields None each `interval`, so that its thread can be stopped."""
        with closing(store.watch(0.01)) as watch:
            assert [next(watch) for _ in range(3)] == [None, None, None]

    def test_a_watch_can_be_closed_and_begun_again(self, store: Store) -> None:
        for n in range(3):
            with closing(store.watch(0.05)) as watch:
                assert next(watch) is None
                store.create(make_operation(f"{n}"))
                assert hears(watch, f"{n}")

    def test_a_watch_that_nobody_reads_holds_nobody_up(self, store: Store) -> None:
        """It may miss some of what happens meanwhile, but hears what happens afterwards."""
        with closing(store.watch(0.05)) as watch:
            assert next(watch) is None
            for n in range(300):
                store.create(make_operation(f"{n}"))
            store.create(make_operation("last"))
            while next(watch) is not None:
                pass
            store.create(make_operation("later"))
            assert hears(watch, "later")

    # --- the clock and closing -------------------------------------------------------------

    def test_the_time_is_the_clocks(self, store: Store, clock: Clock | None) -> None:
        settable(clock).now = 1234.5
        assert store.now() == 1234.5

    def test_time_passes_in_seconds_since_the_epoch(
        self, store: Store, clock: Clock | None
    ) -> None:
        """Not all machines have the same time, but they agree on the day."""
        first = store.now()
        assert abs(first - time.time()) < 86_400
        assert store.now() >= first

    def test_a_closed_store_opens_again(self, store: Store) -> None:
        store.close()
        store.create(make_operation())
        store.write_chunk("a", 1, 0, b"x" * MIB)
        store.close()
        store.close()
        assert store.get("a") == make_operation()
        assert list(store.read_chunks("a", 1, 0, 1)) == [b"x" * MIB]

    def test_closing_disturbs_no_other_thread(self, store: Store) -> None:
        """A call that is under way ends well, and the next one opens what it needs."""
        done = threading.Event()

        def work(i: int) -> None:
            if i == 0:
                while not done.is_set():
                    store.close()
                return
            try:
                for n in range(100):
                    store.create(make_operation(f"{i} {n}"))
            finally:
                done.set()

        in_threads(3, work)
        assert len(store.find(Filter(), limit=500)[0]) == 200

    # --- forks and other processes ---------------------------------------------------------

    @may_fork
    def test_a_fork_works_though_threads_of_its_parent_were_busy(self, store: Store) -> None:
        """A fork may inherit a lock that no thread of it will release, or half a conversation."""
        store.create(make_operation())
        done = threading.Event()

        def use(i: int) -> None:
            n = 0
            while not done.is_set():
                store.write_chunk(f"{i}", 1, n := n + 1, b"x" * 1000)
                store.get("a")

        threads = [threading.Thread(target=use, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        try:
            worked = [
                run_in_fork(lambda n=n: store.create(make_operation(f"fork {n}")))  # type: ignore[misc]
                for n in range(10)
            ]
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert worked == [True] * 10
        store.create(make_operation("parent"))

    @may_fork
    def test_a_fork_works_though_a_thread_of_its_parent_was_in_a_call(
        self, store: Store, clock: Clock | None
    ) -> None:
        """The thread is held where the store asks for the time, if it does so in this call."""
        paused = settable(clock)
        store.create(make_operation())
        busy = threading.Thread(target=store.write_chunk, args=("a", 1, 0, b"x"), name="held")
        busy.start()
        while busy.is_alive() and not paused.inside.wait(0.01):
            pass
        release = threading.Timer(0.3, paused.go.set)
        release.start()
        worked = run_in_fork(lambda: store.create(make_operation("b")))
        release.join()
        busy.join()
        assert worked

    @may_fork
    def test_processes_see_what_others_write(self, store: Store, shared: bool) -> None:
        _require(shared)
        old = store.create(make_operation("parent's"))

        def work() -> None:
            assert store.get("parent's") == old
            assert store.swap(old, changed(old, owner="fork"))
            store.write_chunk("fork's", 1, 0, b"x" * MIB)
            store.create(make_operation("fork's"))

        assert run_in_fork(work)
        assert store.get("parent's") == changed(old, owner="fork")
        assert list(store.read_chunks("fork's", 1, 0, 1)) == [b"x" * MIB]
        assert not store.swap(old, changed(old, owner="parent"))

    @may_fork
    def test_processes_see_which_dedupe_keys_others_hold(self, store: Store, shared: bool) -> None:
        _require(shared)
        assert store.holder("key") is None
        assert run_in_fork(lambda: store.create(make_operation("fork's"), dedupe="key"))
        held = store.holder("key")
        assert held == make_operation("fork's")
        assert run_in_fork(lambda: store.swap(held, changed(held), drop_dedupe=True))
        assert store.holder("key") is None

    @may_fork
    def test_of_4_processes_that_swap_exactly_one_wins(self, store: Store, shared: bool) -> None:
        _require(shared)
        operations = [store.create(make_operation(f"{n}")) for n in range(50)]

        def swaps(i: int) -> int:
            return sum(store.swap(old, changed(old, worker=f"{i}")) for old in operations)

        won = in_forks(4, swaps)
        assert sum(won) == 50, f"the processes believe to have won {won} of 50 swaps"
        for i, number in enumerate(won):
            assert len(store.find(Filter(worker=f"{i}"))[0]) == number

    # --- liveness --------------------------------------------------------------------------

    def test_this_process_lives_and_an_unknown_one_does_not(self, store: Store) -> None:
        """For stores that see for themselves who lives: `contracts.Liveness`."""
        if not isinstance(store, Liveness):
            pytest.skip("this store does not see who lives")
        assert store.lives(store.incarnation())
        assert store.incarnation() == store.incarnation()
        for name in ("", "unknown", "1f", "-1", "f" * 40, "4711-" + "0" * 16, "\x00", "\ud800"):
            assert not store.lives(name)


def _require(shared: bool) -> None:
    if not shared:
        pytest.skip("each process has a store of its own")
