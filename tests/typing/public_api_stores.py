"""The names that stores and their authors use, as they type them; never run, only checked."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import assert_type

import pytest
from starlette.applications import Starlette

from raincheck import Limits, StoreError, StoreUnavailable, open_store
from raincheck.asgi import RaincheckMiddleware
from raincheck.contracts import (
    LEFTOVER_AGE,
    REQUEST_FENCE,
    Filter,
    Operation,
    Store,
    decode,
    encode,
)
from raincheck.stores.mapping import Mapping, MappingStore
from raincheck.stores.memory import MemoryStore
from raincheck.stores.postgresql import from_url
from raincheck.stores.redis import RedisStore
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing import Clock, StoreContract


class Plain(MappingStore):
    def transaction(self) -> AbstractContextManager[Mapping]:
        return nullcontext({})


class TestPlain(StoreContract):
    @pytest.fixture
    def store(self, clock: Clock) -> Store:
        return Plain(clock)


def use(store: Store, operation: Operation) -> Iterator[bytes]:
    kept: Operation = store.create(operation, dedupe="key")
    found: list[Operation] = store.find(Filter(owner="ann"), limit=1)[0]
    hints: Generator[str | None, None, None] = store.watch(1.0)
    try:
        assert_type(store.swap(kept, decode(encode(found[0]))), bool)
    except StoreUnavailable as error:
        raise StoreError(f"{LEFTOVER_AGE} {next(hints)}") from error
    return store.read_chunks(kept.id, REQUEST_FENCE, 0, 1)


opened: list[Store] = [
    open_store("redis://localhost"),
    MemoryStore(),
    SQLiteStore("operations.db", synchronous="full"),
    RedisStore("redis://localhost"),
    from_url("postgresql://localhost"),
]
limits = Limits(synchronous=10)
wrapped = RaincheckMiddleware(Starlette(), store=opened[0], bodies="s3://bucket", limits=limits)
