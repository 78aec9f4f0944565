"""What a store with a server says when it fails names no whole id and no password."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import urlsplit

import psycopg
import pytest

from raincheck.contracts import Store
from raincheck.errors import StoreError
from raincheck.http.messages import Request
from raincheck.stores import open_store
from raincheck.testing.material import changed, make_operation
from tests.stores.failing.backends import NAMESPACE
from tests.stores.redis.keys import keys_on
from tests.support.real_servers import RedisServer, postgresql_url, redis_url
from tests.support.unreliable import Proxy

pytestmark = pytest.mark.server
ID = "0123456789abcdef" * 2
KEY = "dedupe-0123456789"
OPERATION = make_operation(ID)
CALLS: dict[str, Callable[[Store], object]] = {
    "create": lambda store: store.create(OPERATION, Request("GET", "/")),
    "create once": lambda store: store.create(OPERATION, dedupe=KEY),
    "holder": lambda store: store.holder(KEY),
    "get": lambda store: store.get(ID),
    "swap": lambda store: store.swap(OPERATION, changed(OPERATION, expires=5.0)),
    "swap and drop": lambda store: store.swap(
        OPERATION, changed(OPERATION, expires=5.0), drop_request=True, drop_dedupe=True
    ),
    "read_request": lambda store: store.read_request(ID),
    "write_chunk": lambda store: store.write_chunk(ID, 1, 0, b"x"),
    "read_chunks": lambda store: list(store.read_chunks(ID, 1, 0, 1)),
    "discard": lambda store: store.discard(ID),
}


def texts(error: BaseException | None) -> Iterator[str]:
    """Yield what an error and all that led to it say."""
    while error is not None:
        yield f"{error!r} {error}"
        error = error.__cause__ or error.__context__


def check(call: Callable[[Store], object], store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        call(store)
    said = " ".join(texts(caught.value))
    assert not [secret for secret in (ID, KEY, "s3cret") if secret in said]


@pytest.fixture
def name() -> Iterator[str]:
    name = f"texts_{secrets.token_hex(4)}"
    yield name
    with psycopg.connect(postgresql_url(), autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("kind", ["redis", "postgresql"])
def test_where_the_answer_is_lost(
    kind: str, call: Callable[[Store], object], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "raincheck")
    parts = urlsplit(redis_url() if kind == "redis" else postgresql_url())
    user = f"{parts.username}:s3cret@" if kind == "postgresql" else ""
    with Proxy(parts.port or {"redis": 6379, "postgresql": 5432}[kind]) as proxy:
        host = f"{user}127.0.0.1:{proxy.port}"
        url = parts._replace(netloc=host, query=f"{NAMESPACE[kind]}={name}&timeout=1").geturl()
        with closing(open_store(url)) as store:
            store.now()
            with proxy.cutting_each(0):
                check(call, store)
    assert not [secret for secret in (ID, KEY, "s3cret") if secret in caplog.text]


def test_where_redis_refuses() -> None:
    with RedisServer() as server, keys_on(server.url) as keys:
        rules = ("on", ">s3cret", "~nothing", "+@all")
        keys.client.execute_command("ACL SETUSER", "app", *rules)  # type: ignore[no-untyped-call]  # says none
        url = keys.url.replace("//", "//app:s3cret@")
        with closing(open_store(url)) as store:
            for call in CALLS.values():
                check(call, store)
        keys.client.config_set("maxmemory", "1")
        with closing(open_store(keys.url)) as store:
            for call in (CALLS["create"], CALLS["create once"], CALLS["write_chunk"]):
                check(call, store)
        keys.client.config_set("maxmemory", "0")


def test_where_the_id_is_taken(name: str) -> None:
    with keys_on(redis_url()) as keys:
        for url in (keys.url, f"{postgresql_url()}?schema={name}"):
            with closing(open_store(url)) as store:
                store.create(make_operation(ID, owner="another"))
                check(CALLS["create"], store)
                check(CALLS["read_chunks"], store)
