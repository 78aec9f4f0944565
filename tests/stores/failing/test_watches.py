"""A watch ends when it hears nothing any more, and may be begun again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from raincheck.contracts import Store
from raincheck.errors import StoreUnavailable
from raincheck.testing.material import hears, make_operation
from tests.stores.failing.backends import (
    AT_MOST,
    SOON,
    Backend,
    in_thread,
    wait_until,
    works_within,
)
from tests.stores.failing.calls import use

pytestmark = [pytest.mark.server, pytest.mark.slow]

FAILURES: dict[str, Callable[[Backend], object]] = {
    "cut": lambda backend: backend.proxy.cut(),
    "refuse": lambda backend: backend.proxy.refuse(),
    "swallow": lambda backend: backend.proxy.swallow(),
    "kill": lambda backend: backend.server.kill(),
    "stop": lambda backend: backend.server.stop(),
    "pause": lambda backend: backend.server.pause(),
    "fail over": lambda backend: backend.fail_over(),
}
BACK: dict[str, Callable[[Backend], object]] = {
    "refuse": lambda backend: backend.proxy.forward(),
    "swallow": lambda backend: backend.proxy.forward(),
    "kill": lambda backend: backend.server.start(),
    "stop": lambda backend: backend.server.start(),
    "pause": lambda backend: backend.server.resume(),
}


def watch_until_it_ends(store: Store, begun: threading.Event) -> None:
    with closing(store.watch(0.2)) as watch:
        for _ in watch:
            begun.set()


def hears_again(backend: Backend, store: Store) -> bool:
    """Tell whether a new watch hears of what changes."""
    with closing(store.watch(0.2)) as watch:
        assert next(watch) is None
        name = f"{time.monotonic_ns()}"
        use(backend.open_directly(), name)
        return hears(watch, name, timeout=SOON)


@pytest.mark.parametrize("how", FAILURES)
def test_a_watch_that_hears_nothing_any_more_says_so_and_can_be_begun_again(
    backend: Backend, store: Store, how: str
) -> None:
    begun = threading.Event()
    watching = in_thread(lambda: watch_until_it_ends(store, begun))
    assert begun.wait(AT_MOST)
    assert works_within(SOON, lambda: hears_again(backend, store))
    FAILURES[how](backend)
    error = watching.exception(AT_MOST)
    assert isinstance(error, StoreUnavailable)
    if how in BACK:
        BACK[how](backend)
    assert works_within(SOON, lambda: hears_again(backend, store))


@pytest.mark.parametrize("how", ["refuse", "swallow", "kill", "pause"])
def test_a_watch_that_cannot_begin_says_so(backend: Backend, store: Store, how: str) -> None:
    FAILURES[how](backend)
    error = in_thread(lambda: next(store.watch(0.2))).exception(AT_MOST)
    assert isinstance(error, StoreUnavailable)
    BACK[how](backend)
    assert works_within(SOON, lambda: hears_again(backend, store))


def test_a_quiet_watch_on_a_slow_server_goes_on(backend: Backend) -> None:
    store = backend.open("timeout=3")
    store.get("none")  # it is connected, and its server prepared
    backend.proxy.delay = 0.2
    with closing(store.watch(0.1)) as watch:
        quiet = time.monotonic() + 7.0  # more than two timeouts
        while time.monotonic() < quiet:
            assert next(watch) is None
        use(backend.open_directly(), "a")
        assert hears(watch, "a", timeout=SOON)


def test_closing_a_watch_does_not_wait_for_a_server_that_hangs(
    backend: Backend, store: Store
) -> None:
    watch = store.watch(0.1)
    next(watch)
    with backend.proxy.failing("swallow"):
        in_thread(watch.close).result(AT_MOST)


def test_a_watch_that_ends_leaves_no_connection_behind(backend: Backend, store: Store) -> None:
    use(store, "a")
    for n in range(30):
        with closing(store.watch(0.1)) as watch:
            next(watch)
            if n % 2:
                backend.proxy.cut()
        store.create(make_operation(f"{n}"))
    wait_until(lambda: backend.proxy.connections <= 6)
