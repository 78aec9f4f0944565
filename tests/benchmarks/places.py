"""Where operations are kept while benchmarks run: stores whose servers are their own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.benchmarks.tables import missing
from tests.support.real_servers import PostgreSQLServer, RealServer, RedisServer

NO_SERVER = (pytest.skip.Exception, pytest.fail.Exception)  # as tests are told so
SERVERS: dict[str, type[RealServer]] = {"redis": RedisServer, "postgresql": PostgreSQLServer}
STORES = ("memory", "sqlite", *SERVERS)

Server = TypeVar("Server", bound=RealServer)


def start(kind: Callable[[], Server], stack: ExitStack) -> Server | None:
    """Start a server until the stack is closed; say so if this machine has none."""
    try:
        server = kind()
    except NO_SERVER as error:
        missing(str(error))
        return None
    stack.enter_context(server)
    return server


@contextmanager
def sqlite() -> Iterator[str]:
    """Give the URL of an SQLite store that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        yield f"sqlite://{Path(directory) / 'operations.db'}"


def urls(kinds: Iterable[str], stack: ExitStack) -> dict[str, str]:
    """Return the URL of an empty store of each kind, of those that this machine has."""
    found: dict[str, str] = {}
    for kind in kinds:
        if kind == "memory":
            found[kind] = "memory:"
        elif kind == "sqlite":
            found[kind] = stack.enter_context(sqlite())
        elif (server := start(SERVERS[kind], stack)) is not None:
            found[kind] = server.url
    return found
