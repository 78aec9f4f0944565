"""Captured requests, plain and sealed, come back from every store."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from raincheck.contracts import REQUEST_FENCE, Store
from raincheck.engine.captured_request import CapturedRequests
from raincheck.engine.encryption import PLAIN, Sealed, Sealing
from raincheck.engine.engine import CHUNK_SIZE
from raincheck.engine.start import Captured
from raincheck.errors import BodyMissing
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation
from raincheck.stores import keep_bodies
from raincheck.stores.memory import MemoryStore
from raincheck.stores.redis import RedisStore
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing.material import changed, make_operation
from tests.stores.postgresql.schemas import administering, new_schema, store_at
from tests.stores.redis.keys import keys_on
from tests.support.real_servers import postgresql_url, redis_url

ASKED = Request("POST", "/reports", query=b"a=%00&b=\xff", headers=((b"cookie", b"of-anne"),))


@contextmanager
def memory(directory: Path) -> Iterator[Store]:
    yield MemoryStore()


@contextmanager
def sqlite(directory: Path) -> Iterator[Store]:
    with closing(SQLiteStore(directory / "operations.db")) as store:
        yield store


@contextmanager
def objects(directory: Path) -> Iterator[Store]:
    with sqlite(directory) as base:
        yield keep_bodies(base, f"file://{directory}/objects")


@contextmanager
def redis(directory: Path) -> Iterator[Store]:
    with keys_on(redis_url()) as keys, closing(RedisStore(keys.url)) as store:
        yield store


@contextmanager
def postgresql(directory: Path) -> Iterator[Store]:
    with (
        administering() as admin,
        new_schema(admin) as schema,
        closing(store_at(postgresql_url(), schema)) as store,
    ):
        yield store


STORES = [
    *(memory, sqlite, objects),
    *(pytest.param(store, marks=pytest.mark.server) for store in (redis, postgresql)),
]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Callable[[Path], AbstractContextManager[Store]] = request.param
    with opened(tmp_path) as store:
        yield store


@pytest.fixture(params=["plain", "sealed"])
def sealing(request: pytest.FixtureRequest) -> Sealing:
    return PLAIN if request.param == "plain" else Sealed(Fernet.generate_key().decode())


@pytest.fixture
def requests(store: Store, sealing: Sealing) -> CapturedRequests:
    chunk_size: int = getattr(store, "chunk_size", CHUNK_SIZE)
    return CapturedRequests(store, chunk_size, sealing)


def keep(store: Store, requests: CapturedRequests, body: bytes) -> Operation:
    operation = make_operation("a", captured=True)
    return store.create(operation, requests.keep("a", Captured(ASKED, [body])))


@pytest.mark.parametrize("chunks", [0, 0.5, 1, 2.5])
def test_a_request_comes_back_with_its_body(
    store: Store, requests: CapturedRequests, chunks: float
) -> None:
    sent = secrets.token_bytes(int(chunks * requests._chunk_size))
    found = requests.read(keep(store, requests, sent))
    assert found is not None
    request, body = found
    assert replace(request, length=0, chunk_size=0) == ASKED
    with closing(body):
        assert body.read() == sent


def test_nothing_of_a_request_is_left_after_the_end(
    store: Store, requests: CapturedRequests
) -> None:
    operation = keep(store, requests, b"body")
    assert store.swap(operation, changed(operation), drop_request=True)
    assert requests.read(operation) is None
    with pytest.raises(BodyMissing):
        list(store.read_chunks("a", REQUEST_FENCE, 0, 1))
