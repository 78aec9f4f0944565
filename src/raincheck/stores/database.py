"""An SQLite file shared by threads, processes and their forks: opening, locking, error mapping.

Each process has one connection and one lock for it. A fork gets its own of both: it is a crime to
use or close the parent's, so those stay in the dictionary, untouched.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from raincheck.errors import StoreError, StoreUnavailable

SCHEMA_VERSION = 1
PATIENCE = 5.0  # seconds to wait for other writers
# SQLite's own busy handler backs off so long that a writer can starve; it would also block a
# gevent hub. Short random naps keep the order fair enough: the longest wait seen falls tenfold.
NAP = (0.0002, 0.003)  # seconds

_T = TypeVar("_T")
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class _Process:
    """What one process has opened."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: sqlite3.Connection | None = None


class Database:
    """One SQLite file.

    Args:
        path: The file, or a callable that says which at first use.
        schema: Statements that make the tables of a new file.
        synchronous: SQLite's pragma of that name.
    """

    def __init__(
        self, path: str | os.PathLike[str] | Callable[[], Path], schema: str, synchronous: str
    ) -> None:
        self._path = path
        self._schema = schema
        self._synchronous = synchronous
        self._processes: dict[int, _Process] = {}

    @property
    def path(self) -> Path:
        """The file; asked for once, as it must be the same for every use."""
        if callable(self._path):
            self._path = self._path()
        return Path(self._path).absolute()

    def read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        """Return all rows of a query."""
        return self._patiently(lambda c: c.execute(query, values).fetchall())

    def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do `work` in a transaction: all of it, or nothing."""

        def transaction(connection: sqlite3.Connection) -> _T:
            # Not DEFERRED: upgrading a read lock fails at once, whatever the patience.
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
                return result
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

        return self._patiently(transaction)

    def close(self) -> None:
        """Close this process's connection."""
        process = self._processes.pop(os.getpid(), None)
        if process is not None and process.connection is not None:
            with process.lock:
                process.connection.close()

    def _patiently(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        process = self._processes.setdefault(os.getpid(), _Process())
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with process.lock:
                    if process.connection is None:
                        process.connection = self._open()
                    return work(process.connection)
            except sqlite3.Error as error:
                if _code(error) not in _BUSY or time.monotonic() > deadline:
                    self._fail(error)
            except OSError as error:
                self._fail(error)
            time.sleep(random.uniform(*NAP))  # noqa: S311 - no secret

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # -wal and -shm take its mode
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        if self._version(connection) == SCHEMA_VERSION:
            return
        connection.execute("BEGIN IMMEDIATE")
        version = self._version(connection)  # another process may have been first
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has schema {version}, and this raincheck knows up to "
                f"{SCHEMA_VERSION}: upgrade raincheck, or choose another file"
            )
        if version < SCHEMA_VERSION:
            for statement in self._schema.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")

    @staticmethod
    def _version(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    def _fail(self, error: sqlite3.Error | OSError) -> NoReturn:
        code = _code(error)
        if code in _BROKEN:
            raise StoreError(
                f"{self.path} is not a usable SQLite database ({error}): move it away and "
                "raincheck begins a new one"
            ) from error
        if code in _BUSY:
            raise StoreUnavailable(
                f"{self.path} was locked by another process for {PATIENCE:g} s"
            ) from error
        raise StoreUnavailable(f"the SQLite store {self.path} failed: {error}") from error


def _code(error: Exception) -> int:
    """Return SQLite's primary result code; 0 for what has none."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
