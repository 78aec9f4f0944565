"""What one process knows about a PostgreSQL server: connections, the time there, the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from raincheck.stores.patience import Patience
from raincheck.stores.postgresql.connections import Connection, Connections, TablesMissing
from raincheck.stores.postgresql.listening import Listener, channel_of
from raincheck.stores.postgresql.schema import Prepared, Schema
from raincheck.stores.server_clock import ServerClock, measure

_T = TypeVar("_T")


class Process:
    """A process's side of a store; nothing is opened before it is needed.

    Attributes:
        place: The server and its database, without credentials.
        is_deaf: Whether a listener did not hear what it was to hear.
    """

    def __init__(
        self, parameters: Mapping[str, Any], schema: Schema, timeout: float, size: int
    ) -> None:
        self._connections = Connections(parameters, timeout, size)
        self._patience = Patience(self._connections.longest)
        self._schema = schema
        self._prepared: Prepared | None = None
        self._clock = ServerClock(self._ask_how_far_ahead)
        self.place = self._connections.place
        self.is_deaf = False

    def call(self, work: Callable[[Connection], _T]) -> _T:
        """Return what `work` returns; the tables are there for it, and it may be repeated.

        Raises:
            StoreUnavailable: The server does not answer, or can't do it now.
            StoreError: It refuses.
        """
        return self._patience.call(lambda: self._attempt(work))

    def prepare(self) -> Prepared:
        """Look for the tables, make them or bring them up to date."""
        return self._patience.call(lambda: self._connections.run(self._prepare))

    def look(self) -> tuple[Prepared, int]:
        """Look for the tables and make none; return also the version of the server."""

        def work(connection: Connection) -> tuple[Prepared, int]:
            return self._schema.look(connection), connection.info.server_version

        return self._patience.call(lambda: self._connections.run(work))

    def channel(self) -> str:
        """Name the channel on which changes are told."""
        prepared = self._prepared or self.prepare()
        return channel_of(prepared.schema)

    def listen(self) -> Listener:
        """Return a listener to what is told."""
        channel = self.channel()
        return self._patience.call(lambda: Listener(self._connections, channel))

    def now(self) -> float:
        """Return the server's time, in seconds since the epoch."""
        return self._clock()

    def close(self) -> None:
        """Close all connections; those in use once they are given back."""
        self._connections.close()

    def _attempt(self, work: Callable[[Connection], _T]) -> _T:
        def prepare_and_work(connection: Connection) -> _T:
            if self._prepared is None:
                self._prepare(connection)
            return work(connection)

        try:
            return self._connections.run(prepare_and_work)
        except TablesMissing:  # dropped meanwhile, or another server has taken over
            self._prepared = None
            return self._connections.run(prepare_and_work)

    def _prepare(self, connection: Connection) -> Prepared:
        self._prepared = self._schema.prepare(connection)
        return self._prepared

    def _ask_how_far_ahead(self) -> float:
        return self._patience.call(
            lambda: self._connections.run(lambda c: measure(lambda: _tell_time(c))[1])
        )


def _tell_time(connection: Connection) -> float:
    told = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchall()
    return float(told[0][0])
