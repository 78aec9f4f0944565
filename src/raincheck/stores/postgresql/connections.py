"""Connections to PostgreSQL: a few per process, all with deadlines, and errors in our words.

Neither libpq nor psycopg gives up on a server, or a proxy before it, that accepts and never
answers; so every wait here has a deadline. There is no psycopg_pool: it connects, and tries again,
in threads of its own, so that a refused connection is known only when the wait for it is over,
without its cause, and every fork leaves those threads behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Empty, LifoQueue
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

from raincheck.engine.awake import Deadline, Moment
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.stores.patience import SLACK

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen

LIFETIME = 1800.0  # seconds after which a connection is replaced: names may lead elsewhere by then
LEAST = 2.0  # seconds that a statement has, however long it took to connect (libpq's least, too)
TO_CONNECT = 0.6  # of a call's time

_T = TypeVar("_T")
_LATER = ("08", "40", "53", "57", "58")  # classes of errors that may be over the next time
_LATER_CODES = ("25006", "55P03")  # a standby after a failover; a lock that somebody holds
_MISSING = ("3F000", "42P01", "42703")  # a schema, a table, a column
_FORBIDDEN = "42501"


class TablesMissing(StoreError):
    """The tables are not there, or not all of them."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for an answer until `deadline`, and not for ever."""

    deadline = Deadline(float("inf"))
    opened = 0.0
    used = Moment(0.0, 0.0)

    def __del__(self, *unused: object) -> None:
        """Warn of nothing: a store need not be closed, and a fork may not close its parent's."""

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """Run one of psycopg's generators; which arguments there are depends on its version."""
        return super().wait(_until(self.deadline, gen), *args, **kwargs)

    @property
    def is_reusable(self) -> bool:
        """Whether the next statement may go through it."""
        return (
            not self.closed
            and self.info.transaction_status == TransactionStatus.IDLE
            and time.monotonic() < self.opened + LIFETIME
            and not self.used.has_slept  # or who is at its other end may have forgotten it
        )


def _until(deadline: Deadline, steps: PQGen[RV]) -> PQGen[RV]:
    """Go through `steps`, which psycopg wakes several times a second, until it is too late."""
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if deadline.left <= 0:
                raise psycopg.OperationalError("no answer in time")
            wanted = steps.send(ready)
    except StopIteration as end:
        result: RV = end.value
        return result


class Connections:
    """The connections of one process; each is used by one thread at a time.

    Args:
        parameters: libpq's, by name.
        timeout: Seconds that a call may take, with all that it waits for.
        size: How many connections there may be.

    Attributes:
        longest: Seconds after which an attempt that fails was held up by something else.
    """

    def __init__(self, parameters: Mapping[str, Any], timeout: float, size: int) -> None:
        self.timeout = timeout
        self.place = _place(parameters)
        self._size = size
        self._conninfo = make_conninfo("", **_defaults(parameters, timeout), **parameters)
        connecting = max(LEAST * _hosts(parameters), timeout * TO_CONNECT)
        self.longest = max(timeout, connecting + min(LEAST, timeout)) + SLACK
        self._places: LifoQueue[Connection | None] = LifoQueue()  # None: not connected yet
        self._closed = False
        for _ in range(size):
            self._places.put(None)

    def run(self, work: Callable[[Connection], _T]) -> _T:
        """Return what `work` returns, given a connection that nobody else uses meanwhile.

        Raises:
            StoreUnavailable: The server can't do it now; all idle connections are closed then,
                as they may lead to a server that is gone.
            TablesMissing: It needs a table that is not there.
            StoreError: The server refused.
        """
        deadline = Deadline(self.timeout)
        connection = self._take(deadline)
        try:
            if connection is None or not connection.is_reusable:
                _close(connection)
                left, begun = deadline.left, time.monotonic()
                connection = self._connect()
                left -= time.monotonic() - begun
                deadline = Deadline(max(left, min(LEAST, self.timeout)))
            connection.deadline = deadline
            return work(connection)
        except psycopg.Error as error:
            explained = self.explain(error)
            if isinstance(explained, StoreUnavailable):
                _close(connection)
                self._close_idle()
            raise explained from error
        finally:
            self._give_back(connection)

    def open(self) -> Connection:
        """Return a new connection that is not one of the few; the caller closes it."""
        try:
            connection = self._connect()
        except psycopg.Error as error:
            raise self.explain(error) from error
        connection.deadline = Deadline(self.timeout)
        return connection

    def close(self) -> None:
        """Close what is idle now, and everything else once it is given back."""
        self._closed = True
        self._close_idle()

    def explain(self, error: psycopg.Error) -> StoreError:
        """Return what an error of the driver means to the users of a store."""
        code = error.sqlstate or ""
        # No detail and no hint: they may show values. The first line names no credentials.
        said = error.diag.message_primary or str(error).partition("\n")[0]
        message = f"PostgreSQL at {self.place}: {said}"
        broken = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        if code.startswith(_LATER) or code in _LATER_CODES or (broken and not code):
            return StoreUnavailable(message)
        if code in _MISSING:
            return TablesMissing(message)
        if code == _FORBIDDEN:
            grants = "USAGE on the schema; SELECT, INSERT, UPDATE and DELETE on its tables"
            return StoreError(f"{message}: grant this role {grants} raincheck_*")
        return StoreError(message)

    def _take(self, deadline: Deadline) -> Connection | None:
        while step := deadline.step:
            with suppress(Empty):
                return self._places.get(timeout=step)
        raise StoreUnavailable(
            f"all {self._size} connections to PostgreSQL at {self.place} were in use for "
            f"{self.timeout:g} s: allow more with ?pool=…"
        )

    def _give_back(self, connection: Connection | None) -> None:
        if self._closed or connection is None or not connection.is_reusable:
            _close(connection)
            connection = None
        else:
            connection.used = Moment.now()
        self._places.put(connection)
        if self._closed:
            self._close_idle()  # it may have been closed since we looked

    def _connect(self) -> Connection:
        # Prepared statements and all other state of a session would break behind a pooler that
        # gives each transaction another session.
        connection = Connection.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        connection.opened, connection.used = time.monotonic(), Moment.now()
        # A pooler may hand on what somebody else listened to; psycopg would keep it for ever.
        connection.add_notify_handler(_ignore)
        return connection

    def _close_idle(self) -> None:
        idle: list[Connection | None] = []
        with suppress(Empty):
            while True:
                idle.append(self._places.get_nowait())
        for connection in idle:
            _close(connection)
            self._places.put(None)


def _ignore(notification: object) -> None:
    """Do nothing about a notification."""


def _close(connection: Connection | None) -> None:
    if connection is not None:
        connection.close()


def _place(parameters: Mapping[str, Any]) -> str:
    """Name a server and its database, without credentials."""
    host = parameters.get("host") or parameters.get("hostaddr") or "localhost"
    port = parameters.get("port") or "5432"
    database = parameters.get("dbname") or parameters.get("user") or ""
    return f"{host}:{port}/{database}"


def _hosts(parameters: Mapping[str, Any]) -> int:
    return str(parameters.get("host") or "").count(",") + 1


def _defaults(parameters: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Return what a URL may say otherwise: how soon a lost connection is noticed."""
    defaults = {
        "application_name": "raincheck",
        "client_encoding": "utf8",
        "connect_timeout": max(int(LEAST), int(timeout * TO_CONNECT / _hosts(parameters))),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": int(timeout * 1000),
    }
    return {name: value for name, value in defaults.items() if name not in parameters}
