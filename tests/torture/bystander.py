"""One who writes to the store now and then, and notes when that takes long.

A machine under load does to a store what chaos does, and nobody has written it down: servers that
say then that it does not answer are right.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import psycopg
import redis

from tests.support.real_servers import PostgreSQLServer, RealServer
from tests.torture.journal import Journal

INTERVAL = 0.1  # seconds between writes
SLOW = 0.5  # seconds; servers wait twice as long
PATIENCE = 10.0  # seconds that a write may take


@contextmanager
def standing_by(server: RealServer | None, journal: Journal) -> Iterator[None]:
    """Have somebody stand by the store while this lasts; a file has no need of it."""
    is_over = threading.Event()
    watch = threading.Thread(target=_watch, args=(server, journal, is_over))
    if server is not None:
        watch.start()
    try:
        yield
    finally:
        is_over.set()
        if server is not None:
            watch.join()


def _watch(server: RealServer, journal: Journal, is_over: threading.Event) -> None:
    write = _write_to_postgresql if isinstance(server, PostgreSQLServer) else _write_to_redis
    while not is_over.wait(INTERVAL):
        begun = time.monotonic()
        with suppress(redis.RedisError, psycopg.Error):  # it is down, and chaos knows of that
            write(server.url)
        taken = time.monotonic() - begun
        if taken > SLOW:
            journal.write("slow", seconds=taken)


def _write_to_redis(url: str) -> None:
    with closing(redis.Redis.from_url(url, socket_timeout=PATIENCE)) as client:
        client.set("bystander", time.monotonic())


def _write_to_postgresql(url: str) -> None:
    with psycopg.connect(url, connect_timeout=int(PATIENCE)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bystander (t float)")
        connection.execute("INSERT INTO bystander VALUES (%s)", (time.monotonic(),))
