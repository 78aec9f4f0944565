"""One prefix on a Redis server that others use, too: a store in it, and its keys past the store."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager

import redis

from raincheck.stores.redis import RedisStore
from raincheck.stores.redis.names import Names


class Keys:
    """The keys of a new prefix, seen past the store.

    Attributes:
        url: Where a store finds them.
        names: What they are called.
        client: Is to be used for them alone.
    """

    def __init__(self, url: str) -> None:
        self.prefix = f"test-{secrets.token_hex(6)}"
        self.url = f"{url}?prefix={self.prefix}"
        self.names = Names(self.prefix)
        self.client = redis.Redis.from_url(url, protocol=2)

    def all(self) -> set[str]:
        """Return the names of all keys that there are."""
        patterns = (f"{self.prefix}:*", f"{{{self.prefix}:*")
        found = [self.client.scan_iter(pattern, count=1000) for pattern in patterns]
        return {key.decode() for keys in found for key in keys}

    def delete(self) -> None:
        """Leave nothing."""
        for key in self.all():
            self.client.unlink(key)
        self.client.close()


@contextmanager
def keys_on(url: str) -> Iterator[Keys]:
    """Supply a new prefix, and leave nothing of it."""
    keys = Keys(url)
    try:
        yield keys
    finally:
        keys.delete()


@contextmanager
def opened(url: str) -> Iterator[RedisStore]:
    """Supply a store, and close it."""
    with closing(RedisStore(url)) as store:
        yield store
