"""What the Redis store does with servers that are set up in other ways than it needs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from raincheck.contracts import Filter
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.http.messages import Request
from raincheck.operations.operation import Result, State
from raincheck.testing.material import MIB, changed, in_threads, make_operation
from tests.stores.failing.backends import wait_until, works_within
from tests.stores.redis.keys import opened
from tests.support.real_servers import RedisServer

pytestmark = pytest.mark.server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_the_time_is_the_servers_and_seldom_asked_for(server: RedisServer) -> None:
    with opened(server.url) as store, redis.Redis.from_url(server.url, protocol=2) as client:
        asked, told = time.time(), store.now()
        assert asked - 1 <= told <= time.time() + 1
        before = client.info("stats")["total_commands_processed"]
        times = [store.now() for _ in range(1000)]
        assert client.info("stats")["total_commands_processed"] - before < 5
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("memory", "policy", "warnings"),
    [
        ("100mb", "allkeys-lru", 1),
        ("100mb", "volatile-ttl", 1),
        ("100mb", "noeviction", 0),
        ("0", "allkeys-lru", 0),
    ],
)
def test_a_server_that_may_evict_is_warned_of_once(
    server: RedisServer, caplog: pytest.LogCaptureFixture, memory: str, policy: str, warnings: int
) -> None:
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.config_set("maxmemory", memory)
        client.config_set("maxmemory-policy", policy)
    with opened(server.url) as store:
        in_threads(4, lambda i: store.create(make_operation(f"{i}")))
        store.close()
        store.get("a")
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(told) == warnings
    assert all("noeviction" in text and policy in text for text in told)


@pytest.mark.parametrize("drops", [True, False])
def test_an_end_is_not_published_without_the_chunk_that_there_was_no_room_for(
    server: RedisServer, drops: bool
) -> None:
    data = bytes(8 * MIB)
    with opened(server.url) as store, redis.Redis.from_url(server.url, protocol=2) as client:
        operation = store.create(make_operation("a", fence=1))
        result = Result(200, (), len(data), chunk_size=len(data), fence=1)
        ended = changed(operation, state=State.SUCCEEDED, result=result, expires=9e9)
        # What is sent takes room, too, but only until it is refused.
        client.config_set("maxmemory", client.info("memory")["used_memory"] + len(data) // 2)
        with pytest.raises(StoreError):
            store.conclude(operation, ended, 0, data, drop_request=drops)
        assert store.get("a") == operation
        client.config_set("maxmemory", 0)
        assert store.conclude(operation, ended, 0, data, drop_request=drops)
        assert list(store.read_chunks("a", 1, 0, 1)) == [data]


@pytest.mark.parametrize("limit", [1, 3])
def test_more_threads_than_connections_take_turns(server: RedisServer, limit: int) -> None:
    with opened(f"{server.url}?max_connections={limit}&client_name=limited") as store:
        with closing(store.watch(5.0)) as watch:
            next(watch)
            in_threads(16, lambda n: [store.create(make_operation(f"{n} {i}")) for i in range(10)])
            with redis.Redis.from_url(server.url, protocol=2) as client:
                names = [found["name"] for found in client.client_list()]
        assert names.count("limited") <= limit + 1
        assert len(store.find(Filter(), limit=200)[0]) == 160


def test_a_connection_that_stays_in_use_is_waited_for_in_vain_and_the_server_is_not_down(
    server: RedisServer,
) -> None:
    with opened(f"{server.url}?max_connections=1&timeout=0.2") as store:
        old = store.create(make_operation())
        began, over = threading.Event(), threading.Event()

        def hold(_: object) -> bool:
            began.set()
            return over.wait(30)

        holding = threading.Thread(target=store._server._run, args=(hold,))
        holding.start()
        assert began.wait(30)
        with pytest.raises(StoreUnavailable, match="max_connections"):
            store.get("a")
        over.set()
        holding.join(30)
        assert store.get("a") == old


def test_a_server_that_does_not_tell_its_settings_is_used(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url, protocol=2) as client:
        rules = ["on", ">s3cret", "~raincheck:*", "~{raincheck:*", "+@all", "-config"]
        client.execute_command("ACL SETUSER", "app", *rules)
    with opened(server.url.replace("//", "//app:s3cret@")) as store:
        store.create(make_operation(), Request("GET", "/"), "key")
        assert store.get("a") is not None
        with pytest.raises(StoreError, match="channels"), closing(store.watch(1)) as watch:
            next(watch)


@pytest.mark.parametrize("login", ["", ":wr0ng@", "user:wr0ng@"])
def test_a_refused_login_is_an_error_without_the_password(server: RedisServer, login: str) -> None:
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.config_set("requirepass", "s3cret")
        with opened(server.url.replace("//", f"//{login}")) as store:
            with pytest.raises(StoreError, match=f"127.0.0.1:{server.port} refused the login") as e:
                store.get("a")
            assert not isinstance(e.value, StoreUnavailable)
            assert "wr0ng" not in f"{e.value} {e.value.__cause__}"
        client.execute_command("AUTH", "s3cret")


def test_a_replica_is_unavailable_for_writing_only(server: RedisServer) -> None:
    with RedisServer() as replica, opened(server.url) as primary, opened(replica.url) as store:
        old = primary.create(make_operation())
        with redis.Redis.from_url(replica.url, protocol=2) as client:
            client.replicaof("127.0.0.1", str(server.port))
            wait_until(lambda: store.get("a") == old, 30)
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="name the primary"):
                    store.swap(old, changed(old))
                assert store.get("a") == old
            client.replicaof("NO", "ONE")
        assert store.swap(old, changed(old))


def test_a_restarted_server_is_found_again(server: RedisServer) -> None:
    with opened(server.url) as store:
        old = store.create(make_operation(), dedupe="key")
        server.stop()
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{server.port}"):
            store.get("a")
        server.start()
        assert works_within(30, lambda: store.swap(old, changed(old)))
        assert store.create(make_operation("b"), dedupe="key").id == "a"
