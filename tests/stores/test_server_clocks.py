"""Stores with a server tell its time, however hard it was to reach when they asked."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest

from raincheck.stores import open_store, patience
from tests.support.real_servers import postgresql_url, redis_url
from tests.support.unreliable import Proxy

pytestmark = pytest.mark.server
SERVERS = {"redis": (redis_url, "prefix", 6379), "postgresql": (postgresql_url, "schema", 5432)}


@pytest.fixture
def name() -> Iterator[str]:
    name = f"clock_{secrets.token_hex(4)}"
    yield name
    with psycopg.connect(postgresql_url(), autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@contextmanager
def silent_once(then: Callable[[], None]) -> Iterator[int]:
    """Listen on a port, call `then` as soon as somebody comes, and answer nothing."""

    def be_silent() -> None:
        client, _ = listener.accept()
        then()
        with client:
            over.wait(60)

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=be_silent, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        over.set()
        thread.join(30)


@pytest.mark.parametrize("kind", SERVERS)
def test_an_attempt_that_failed_does_not_make_the_time_wrong(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second attempt is made, however slow the first one was.
    monkeypatch.setattr(patience, "ENOUGH", 60.0)
    find, namespace, usual = SERVERS[kind]
    parts = urlsplit(find())
    real = parts.port or usual
    with Proxy(real) as proxy:

        def answer() -> None:
            proxy.target = real

        with silent_once(answer) as silent:
            proxy.target = silent
            host = f"{parts.username or ''}{'@' if parts.username else ''}127.0.0.1:{proxy.port}"
            url = parts._replace(netloc=host, query=f"{namespace}={name}&timeout=4").geturl()
            with closing(open_store(url)) as store:
                began = time.monotonic()
                store.now()
                assert time.monotonic() - began > 1.5, "it was not silent"
                before, told, after = time.time(), store.now(), time.time()
                # The server is on this machine; a wrong time would be a second off, or two.
                assert before - 0.8 <= told <= after + 0.8
