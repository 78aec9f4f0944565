"""Connections break before, during and after a call: it happens once, and completely."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import psycopg
import pytest
from redis import Redis

from raincheck.contracts import Store
from raincheck.errors import StoreUnavailable
from tests.stores.failing.backends import AT_MOST, KINDS, Backend, in_thread, reached, timed
from tests.stores.failing.calls import CALLS, Call, use
from tests.support.real_servers import PostgreSQLServer, RealServer
from tests.support.unreliable import Direction

pytestmark = pytest.mark.server

ATTEMPTS = 3  # how often a store asks a server before it gives up
DIRECTIONS: list[Direction] = ["up", "down"]


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    with KINDS[request.param]() as server:
        yield server


@pytest.fixture
def backend(server: RealServer) -> Iterator[Backend]:
    """A network of the test's own before a server that has nothing, and goes on afterwards."""
    empty(server)
    kind = "postgresql" if isinstance(server, PostgreSQLServer) else "redis"
    with reached(kind, server) as backend:
        yield backend


def empty(server: RealServer) -> None:
    if isinstance(server, PostgreSQLServer):
        other = server.url.replace("/test", "/template1")
        with psycopg.connect(other, autocommit=True) as connection:
            connection.execute("DROP DATABASE test WITH (FORCE)")
            connection.execute("CREATE DATABASE test STRATEGY file_copy")
    else:
        with Redis.from_url(server.url) as client:
            client.flushall()
            client.script_flush()


def places(size: int) -> list[int]:
    """Return after how many bytes to cut a conversation of that size."""
    return sorted({0, 1, size // 4, size // 2, size * 3 // 4, size - 1})


def carried(backend: Backend, direction: Direction, work: Callable[[], object]) -> int:
    """Return how many bytes it sends or gets."""
    before = backend.proxy.carried[direction]
    work()
    return backend.proxy.carried[direction] - before


def size_of(backend: Backend, call: Call, direction: Direction) -> int:
    """Measure a call on a connection that is open, to a server that knows its scripts."""
    size = 0
    for name in ("first00", "second0"):
        store = backend.open(backend.namespace(name))
        store.get("none")
        call.prepare(store)
        size = carried(backend, direction, lambda store=store: call.run(store))  # type: ignore[misc]
    return size


def cut_once(
    backend: Backend, call: Call, direction: Direction, place: int, size: int, *, connected: bool
) -> None:
    """Cut one call at one place; its repetition has to work, and nothing is half there."""
    query = backend.namespace(f"n{place:06}")
    truth = backend.open_directly(query)
    call.prepare(truth)
    store = backend.open(f"{query}&timeout=2")
    if connected:
        store.get("none")
    before = backend.proxy.accepted
    backend.proxy.cut_after(place, direction)
    result = call.run(store)
    backend.proxy.forward()
    reconnected = backend.proxy.accepted > before
    assert reconnected or place == size - 1, "a clock's answer may be shorter this time"
    call.check(truth, result)
    use(store, "afterwards")


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", CALLS)
def test_a_connection_that_breaks_within_a_call_costs_nothing(
    backend: Backend, name: str, direction: Direction
) -> None:
    call = CALLS[name]
    size = size_of(backend, call, direction)
    for place in places(size):
        cut_once(backend, call, direction, place, size, connected=True)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_connection_that_breaks_while_it_is_made_costs_nothing(
    backend: Backend, direction: Direction
) -> None:
    calm = backend.open(backend.namespace("calm000"))
    size = carried(backend, direction, lambda: CALLS["create"].run(calm))
    for place in places(size):
        cut_once(backend, CALLS["create"], direction, place, size, connected=False)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_connection_that_breaks_while_an_empty_server_is_prepared_costs_nothing(
    backend: Backend, direction: Direction
) -> None:
    calm = backend.open(backend.namespace("calm000"))
    size = carried(backend, direction, lambda: use(calm, "a"))
    for place in range(0, size, size // 25):
        store = backend.open(f"{backend.namespace(f'n{place}')}&timeout=2")
        backend.proxy.cut_after(place, direction)
        use(store, "a")
        backend.proxy.forward()


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_whose_every_attempt_is_cut_has_happened_completely_or_not_at_all(
    backend: Backend, name: str, direction: Direction
) -> None:
    call = CALLS[name]
    size = size_of(backend, call, direction)
    for place in (0, size // 2, size - 1):
        query = backend.namespace(f"n{place:06}")
        truth = backend.open_directly(query)
        call.prepare(truth)
        store = backend.open(f"{query}&timeout=2")
        store.get("none")
        with backend.proxy.cutting_each(place, direction):
            taken, _ = timed(partial(call.run, store))
        assert taken < AT_MOST
        call.check_unknown(truth)


def test_connections_that_broke_while_nobody_used_them_cost_nothing(
    backend: Backend, store: Store
) -> None:
    in_parallel = [in_thread(partial(use, store, f"{n}")) for n in range(8)]
    for future in in_parallel:
        future.result(AT_MOST)
    backend.proxy.cut()
    for future in [in_thread(partial(use, store, f"again-{n}")) for n in range(8)]:
        future.result(AT_MOST)


def test_a_server_that_refuses_is_asked_a_few_times_and_no_more(
    backend: Backend, store: Store
) -> None:
    with backend.proxy.failing("refuse"):
        before = backend.proxy.accepted
        with pytest.raises(StoreUnavailable):
            store.get("a")
        assert backend.proxy.accepted - before <= 2 * ATTEMPTS


def test_a_body_that_is_read_slowly_goes_on_over_broken_connections(
    backend: Backend, store: Store
) -> None:
    for n in range(6):
        store.write_chunk("a", 1, n, b"%d" % n * 100_000)
    read = []
    for piece in store.read_chunks("a", 1, 0, 6):
        read.append(piece)
        backend.proxy.cut()
    assert read == [b"%d" % n * 100_000 for n in range(6)]
