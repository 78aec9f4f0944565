"""Servers that are down, hang, are slow, restart, pause, or come back empty: real ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from raincheck.contracts import Store
from raincheck.errors import BodyMissing, StoreUnavailable
from raincheck.operations.operation import State
from raincheck.testing.material import changed, make_operation
from tests.stores.failing.backends import (
    A_PROBE,
    AT_MOST,
    AT_ONCE,
    SOON,
    Backend,
    in_thread,
    timed,
    works_within,
)
from tests.stores.failing.calls import CALLS, EVERY_CALL, NEXT, OPERATION, use

pytestmark = [pytest.mark.server, pytest.mark.slow]

THREADS = 8
OUTAGES = ("refuse", "swallow", "kill", "pause")


@contextmanager
def outage(backend: Backend, how: str) -> Iterator[None]:
    """Have the server fail in one of four ways, and be back."""
    if how in ("refuse", "swallow"):
        with backend.proxy.failing(how):  # type: ignore[arg-type]  # one of the two
            yield
        return
    (backend.server.kill if how == "kill" else backend.server.pause)()
    try:
        yield
    finally:
        (backend.server.start if how == "kill" else backend.server.resume)()


def all_done(work: Callable[[int], object]) -> list[tuple[float, Exception | None]]:
    """Call it in several threads at once; none may take too long."""
    futures = [in_thread(partial(timed, partial(work, n))) for n in range(THREADS)]
    return [future.result(AT_MOST) for future in futures]


# --- down ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", OUTAGES)
def test_every_call_fails_in_time_then_at_once_and_works_soon_when_the_server_is_back(
    backend: Backend, store: Store, how: str
) -> None:
    CALLS["create"].run(store)
    with outage(backend, how):
        first, error = timed(lambda: store.get("a"))
        assert isinstance(error, StoreUnavailable)
        assert first < AT_MOST
        for name, call in EVERY_CALL.items():
            taken, error = timed(partial(call, store))
            assert error is not None or name == "now", name  # it may know the server's clock
            assert taken < A_PROBE, f"{name} may be the one that asks again"
        assert min(timed(lambda: store.get("a"))[0] for _ in range(3)) < AT_ONCE
    assert works_within(SOON, lambda: store.get("a")) == OPERATION
    use(store, "b")


@pytest.mark.parametrize("how", OUTAGES)
def test_a_server_that_is_down_holds_up_no_thread_for_long(
    backend: Backend, store: Store, how: str
) -> None:
    with outage(backend, how):
        for _ in range(2):
            for taken, error in all_done(lambda n: store.create(make_operation(f"{n}"))):
                assert error is not None
                assert taken < AT_MOST
        at_once = [
            sum(taken < AT_ONCE for taken, _ in all_done(lambda n: store.get("a")))
            for _ in range(3)  # a machine under load may hold up all threads for a moment
        ]
        assert max(at_once) >= THREADS - 1, "one thread asks whether it is back"
    works_within(SOON, lambda: use(store, "x"))


@pytest.mark.parametrize("how", OUTAGES)
def test_a_store_that_was_never_connected_fails_in_time(backend: Backend, how: str) -> None:
    store = backend.open("")
    with outage(backend, how):
        taken, error = timed(lambda: store.create(make_operation()))
        assert error is not None
        assert taken < AT_MOST
    works_within(SOON, lambda: use(store, "x"))


@pytest.mark.parametrize("how", ["swallow", "pause"])
def test_without_a_timeout_in_its_url_a_store_does_not_hang_either(
    backend: Backend, how: str
) -> None:
    store = backend.open("")
    use(store, "a")
    with outage(backend, how):
        taken, error = timed(lambda: store.get("a"))
        assert error is not None
        assert taken < AT_MOST
    works_within(SOON, lambda: use(store, "x"))


def test_the_error_names_no_password_and_has_the_drivers_own_as_its_cause(
    backend: Backend,
) -> None:
    backend.server.kill()
    url = backend.url.replace("//", "//somebody:secret@").replace("postgres@", "")
    store = backend.open(url=url)
    with pytest.raises(StoreUnavailable) as caught:
        store.get("a")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is not None
    backend.server.start()


def test_closing_does_not_wait_for_a_server_that_hangs(backend: Backend, store: Store) -> None:
    use(store, "a")
    with backend.proxy.failing("swallow"):
        closed = in_thread(store.close)
        closed.result(AT_MOST)


# --- slow ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_a_slow_server_is_waited_for(backend: Backend, truth: Store, name: str) -> None:
    CALLS[name].prepare(truth)
    backend.proxy.delay = 0.2
    store = backend.open("")
    CALLS[name].check(truth, CALLS[name].run(store))
    use(store, "b")


def test_a_slow_server_that_is_empty_is_waited_for(backend: Backend) -> None:
    backend.proxy.delay = 0.2
    use(backend.open(""), "a")


def test_a_slow_network_carries_large_chunks(backend: Backend) -> None:
    store = backend.open("timeout=2")
    chunk = bytes(range(256)) * 1024
    backend.proxy.rate = 200_000  # bytes per second: longer than the timeout for all of it
    store.write_chunk("a", 1, 0, chunk)
    assert list(store.read_chunks("a", 1, 0, 1)) == [chunk]


def test_a_server_that_pauses_for_a_moment_is_waited_for(backend: Backend) -> None:
    store = backend.open("timeout=3")
    use(store, "before")
    backend.server.pause()
    during = in_thread(partial(use, store, "during"))
    time.sleep(0.5)  # the pause itself: no event would end it
    backend.server.resume()
    during.result(AT_MOST)


# --- restarted -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_restart_between_calls_is_not_noticed(backend: Backend, store: Store, how: str) -> None:
    for name, call in CALLS.items():
        query = backend.namespace(name.replace(" ", "_"))
        fresh = backend.open(query)
        call.prepare(fresh)
        getattr(backend, how)()
        call.check(backend.open_directly(query), call.run(fresh))


class Load:
    """Threads that use a store without a pause, and remember what it has acknowledged."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stopped = threading.Event()
        self.acknowledged: list[str] = []
        self.worked = [0.0] * THREADS
        self.longest = 0.0
        self._running = [in_thread(partial(self._work, n)) for n in range(THREADS)]

    def _work(self, thread: int) -> None:
        n = 0
        while not self._stopped.is_set():
            n += 1
            began = time.monotonic()
            try:
                use(self._store, f"{thread}-{n}")
            except StoreUnavailable:
                pass  # not acknowledged: it may be there or not
            else:
                self.acknowledged.append(f"{thread}-{n}")
                self.worked[thread] = time.monotonic()
            self.longest = max(self.longest, time.monotonic() - began)

    def all_work_since(self, moment: float) -> bool:
        """Tell whether each thread has finished something that it began after that."""
        return all(worked > moment for worked in self.worked)

    def stop(self) -> None:
        self._stopped.set()
        for running in self._running:
            running.result(AT_MOST)


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_restart_under_load_loses_nothing_and_hangs_nobody(
    backend: Backend, store: Store, truth: Store, how: str
) -> None:
    load = Load(store)
    for _ in range(3):
        works_within(AT_MOST, lambda: _await(load, time.monotonic()))
        getattr(backend, how)()
        back = time.monotonic()
        _await(load, back)
        assert time.monotonic() - back < SOON
    load.stop()
    assert load.longest < AT_MOST
    for id in load.acknowledged:
        kept = truth.get(id)
        assert kept is not None
        assert kept.state is State.SUCCEEDED
        assert len(b"".join(truth.read_chunks(id, 1, 0, 1))) == 1000


def _await(load: Load, moment: float) -> None:
    deadline = time.monotonic() + AT_MOST
    while not load.all_work_since(moment):
        assert time.monotonic() < deadline, "a thread hangs"
        time.sleep(0.005)


def test_racing_swaps_over_breaking_connections_are_never_in_vain(
    backend: Backend, store: Store
) -> None:
    """Of 8 threads that count up by compare-and-set, none may count in vain.

    One may count twice: it can't know that it won where the answer was lost and another one has
    changed the operation before it could ask again.
    """
    store.create(make_operation("counter"))
    counted = [0] * THREADS

    def count(thread: int) -> None:
        name = f"of-{thread}"
        while counted[thread] < 30:
            old = works_within(SOON, partial(store.get, "counter"))
            assert old is not None
            new = changed(old, unknown={**old.unknown, name: old.unknown.get(name, 0) + 1})
            counted[thread] += works_within(SOON, partial(store.swap, old, new))

    running = [in_thread(partial(count, n)) for n in range(THREADS)]
    while not all(future.done() for future in running):
        backend.proxy.cut()
        before, begun = sum(counted), time.monotonic()
        time.sleep(0.1)  # time enough to connect and to ask; on a machine under load more, below
        while sum(counted) == before and time.monotonic() - begun < 2.0:
            time.sleep(0.02)
    for future in running:
        future.result(0)
    final = store.get("counter")
    assert final is not None
    assert all(final.unknown[f"of-{n}"] >= 30 for n in range(THREADS))
    assert final.version == 1 + sum(final.unknown.values()), "each change was made upon the last"


# --- replaced by an empty one ----------------------------------------------------------------


def test_after_a_failover_to_an_empty_server_everything_begins_anew(
    backend: Backend, store: Store
) -> None:
    CALLS["create"].run(store)
    store.write_chunk("a", 1, 0, b"x")
    backend.fail_over()
    assert store.get("a") is None
    assert not store.swap(OPERATION, NEXT)
    assert store.read_request("a") is None
    assert store.create(OPERATION) == OPERATION
    assert store.swap(OPERATION, NEXT)
    use(store, "b")


@pytest.mark.parametrize("name", EVERY_CALL)
def test_any_call_may_be_the_first_after_a_failover(
    backend: Backend, store: Store, name: str
) -> None:
    use(store, "a")
    backend.fail_over()
    taken, error = timed(lambda: _ignoring_lost_bodies(EVERY_CALL[name], store))
    assert error is None
    assert taken < SOON
    use(store, "b")


def _ignoring_lost_bodies(call: Callable[[Store], object], store: Store) -> None:
    with suppress(BodyMissing):  # as it has to be: the server is empty
        call(store)
