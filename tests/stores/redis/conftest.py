"""A prefix of its own for each test, and a store that takes its time from the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from raincheck.stores.redis import RedisStore
from raincheck.testing import Clock
from tests.stores.redis.keys import Keys, keys_on
from tests.support.real_servers import redis_url


@pytest.fixture
def keys() -> Iterator[Keys]:
    with keys_on(redis_url()) as keys:
        yield keys


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(keys: Keys, clock: Clock) -> Iterator[RedisStore]:
    with closing(RedisStore(keys.url, clock=clock)) as store:
        yield store
