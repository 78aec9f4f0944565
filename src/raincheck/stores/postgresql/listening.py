"""Hearing what other processes notify, on a connection of its own (LISTEN and NOTIFY).

A pooler that gives each transaction another session accepts LISTEN, and nothing is ever heard.
"""

from __future__ import annotations

import json
import selectors
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from raincheck.engine.awake import Deadline
from raincheck.stores.postgresql.connections import Connection, Connections

LONGEST_NAME = 63  # bytes, of a channel
LONGEST_HINT = 7000  # bytes; the server takes less than 8000


class Listener:
    """Listens on a channel from the beginning to `close`; for one thread.

    Raises:
        StoreUnavailable: Also by any method: nothing can be heard any more.
    """

    def __init__(self, connections: Connections, channel: str) -> None:
        self._connections = connections
        self.channel = channel
        self._heard: list[str] = []
        self._connection = connections.open()
        # For what arrives with the answer to a statement.
        self._connection.add_notify_handler(lambda news: self._heard.append(news.payload))
        try:
            self._execute(sql.SQL("LISTEN {}"))
        except BaseException:
            self.close()
            raise

    def hear(self, timeout: float) -> list[str]:
        """Return what was notified since the last call; wait for it if there is nothing yet.

        Args:
            timeout: Seconds to wait; then the server is asked whether it is still there.
        """
        with self._explained():
            self._collect()
            if not self._heard:
                _wait_readable(self._connection, timeout)
                self._collect()
        if not self._heard:
            self._execute(sql.SQL("SELECT 1"))
        heard, self._heard = self._heard, []
        return heard

    def hears(self, hint: str, timeout: float) -> bool:
        """Tell whether a hint arrives in time; all others are kept for `hear`.

        The server is asked nothing: a pooler might deliver with the answer what it would keep back
        at any other time.
        """
        deadline = Deadline(timeout)
        with self._explained():
            self._collect()
            while hint not in self._heard and (step := deadline.step):
                _wait_readable(self._connection, step)
                self._collect()
        found = hint in self._heard
        self._heard = [heard for heard in self._heard if heard != hint]
        return found

    def give_up(self) -> None:
        """Take LISTEN back, from the same session if luck will have it."""
        self._execute(sql.SQL("UNLISTEN {}"))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _collect(self) -> None:
        server = self._connection.pgconn
        server.consume_input()
        while notification := server.notifies():
            self._heard.append(notification.extra.decode())

    def _execute(self, statement: sql.SQL) -> None:
        self._connection.deadline = Deadline(self._connections.timeout)
        with self._explained():
            self._connection.execute(statement.format(sql.Identifier(self.channel)))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._connections.explain(error) from error


def channel_of(schema: str) -> str:
    """Name the channel of a schema; of two that begin with the same 50 letters each hears both."""
    return f"raincheck_{schema}".encode()[:LONGEST_NAME].decode(errors="ignore")


def to_hint(operation_id: str) -> str:
    """Write an id so that any channel takes it; a very long one is not told."""
    hint = json.dumps(operation_id)
    return hint if len(hint) < LONGEST_HINT else "null"


def from_hint(hint: str) -> str | None:
    """Return the id that a hint names, if it names one."""
    with suppress(ValueError):
        named = json.loads(hint)
        return named if isinstance(named, str) else None
    return None


def _wait_readable(connection: Connection, timeout: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        selector.select(timeout)
