"""A store's server behind a network, both of which fail when a test says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from raincheck.contracts import Store
from raincheck.errors import StoreUnavailable
from raincheck.stores import open_store
from tests.support.real_servers import PostgreSQLServer, RealServer, RedisServer
from tests.support.unreliable import Proxy

NAMESPACE = {"redis": "prefix", "postgresql": "schema"}  # the parameter of a store's URL
KINDS: dict[str, Callable[[], RealServer]] = {
    # With `everysec` a server that is killed may lose what it has acknowledged.
    "redis": partial(RedisServer, fsync="always"),
    "postgresql": PostgreSQLServer,
}
AT_MOST = 25.0  # seconds that a call may take: about ten, but for a machine under load
A_PROBE = 6.0  # seconds that a call may take which asks whether a server is back: a timeout of 1
AT_ONCE = 0.3  # seconds that a call may take which does not ask the server
SOON = 30.0  # seconds after which a store works again: one, but for a machine under load

_T = TypeVar("_T")


@dataclass(frozen=True)
class Backend:
    """A private server, the proxy before it, and stores that go through the proxy."""

    kind: str
    server: RealServer
    proxy: Proxy
    _opened: ExitStack

    @property
    def url(self) -> str:
        """Where a store finds the server: through the proxy."""
        parts = urlsplit(self.server.url)
        host = parts.netloc.replace(f":{parts.port}", f":{self.proxy.port}")
        return parts._replace(netloc=host).geturl()

    def open(self, query: str = "timeout=1", *, url: str | None = None) -> Store:
        """Return a store of its own; its connections are closed with the backend."""
        store = open_store(f"{url or self.url}{'?' if query else ''}{query}")
        self._opened.callback(store.close)
        return store

    def open_directly(self, query: str = "") -> Store:
        """Return a store that sees what there really is, past the proxy."""
        return self.open(query, url=self.server.url)

    def namespace(self, name: str) -> str:
        """Return what has a store share nothing with those of other names."""
        return f"{NAMESPACE[self.kind]}={name}"

    def restart(self) -> None:
        """Stop the server in order, and start it again with its data."""
        self.server.stop()
        self.server.start()

    def crash(self) -> None:
        """Kill the server, and start it again with its data."""
        self.server.kill()
        self.server.start()

    def fail_over(self) -> None:
        """Replace the server by an empty one."""
        self.server.kill()
        self.server.wipe()
        self.server.start()


@contextmanager
def backend_of(kind: str) -> Iterator[Backend]:
    """Start a server and what belongs to it."""
    with KINDS[kind]() as server, reached(kind, server) as backend:
        yield backend


@contextmanager
def reached(kind: str, server: RealServer) -> Iterator[Backend]:
    """Put a network before a server that runs."""
    with Proxy(server.port) as proxy, ExitStack() as opened:
        yield Backend(kind, server, proxy, opened)


def timed(work: Callable[[], object]) -> tuple[float, Exception | None]:
    """Return how long it took, and what it raised."""
    began = time.monotonic()
    try:
        work()
    except StoreUnavailable as error:
        return time.monotonic() - began, error
    return time.monotonic() - began, None


def in_thread(work: Callable[[], _T]) -> Future[_T]:
    """Run it beside the test, in a thread that holds up no exit if it hangs."""
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def works_within(seconds: float, work: Callable[[], _T]) -> _T:
    """Repeat what may be unavailable until it works; it must within that time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return work()
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def wait_until(condition: Callable[[], object], seconds: float = AT_MOST) -> None:
    """Return as soon as `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
