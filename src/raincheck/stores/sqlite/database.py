"""An SQLite file shared by threads, processes and their forks: opening, locking, error mapping.

Each process has one connection and one lock for it, and the same once more for glances. SQLite
keeps the locks of a file in a table of the process that a fork inherits, though not the locks: it
would then believe to hold what it does not, and another process would delete the log under it. So
nothing is open while a process forks.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from raincheck.engine.awake import Deadline
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.stores.sqlite.parts import Part, do_all, take, withdraw, within
from raincheck.stores.sqlite.reserve import PAGE, Reserve

logger = logging.getLogger("raincheck")

SCHEMA_VERSION = 1
APPLICATION = 0x7261696E  # "rain", in the file's header
PATIENCE = 5.0  # seconds to wait for other writers
# SQLite's own busy handler backs off so long that a writer can starve; it would also block a
# gevent hub. Short random naps keep the order fair enough: the longest wait seen falls tenfold.
NAP = (0.0002, 0.003)  # seconds
_JITTER = random.SystemRandom()  # not the shared generator, which an application may have seeded

_T = TypeVar("_T")
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# What SQLite says where there is no room, also for the files that it needs beside the database.
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class _Connection(sqlite3.Connection):
    """A connection that may be let go of: nobody has to close a store."""

    def __del__(self) -> None:
        """Close it without the warning that Python 3.13 gives."""
        self.close()


class Database:
    """One SQLite file.

    Args:
        path: The file, or a callable that says which at first use.
        schema: Statements that make the tables of a new file.
        synchronous: SQLite's pragma of that name.
        add: Adds what older files of the same schema lack; what does not know of it must be able
            to use the file, too.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Callable[[], Path],
        schema: str,
        synchronous: str,
        add: Callable[[sqlite3.Connection], None] = lambda _: None,
    ) -> None:
        self._named = path if callable(path) else Path(path).absolute()
        self._path: Path | None = None
        self._schema = schema
        self._synchronous = synchronous
        self._add = add
        self._reserve = Reserve(lambda: self.path.with_name(self.path.name + "-reserve"))
        self._lock = threading.RLock()
        self._waiting = deque[Part[Any]]()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # device and inode
        self._glance_lock = threading.RLock()
        self._glances: sqlite3.Connection | None = None
        _DATABASES.add(self)

    @property
    def path(self) -> Path:
        """The file itself, where the name is a link; the same for every use.

        Raises:
            StoreUnavailable: There is no place for it.
        """
        if self._path is None:
            named = self.named
            try:
                self._path = Path(os.path.realpath(named))
            except OSError as error:
                raise StoreUnavailable(f"no place for the store: {error}") from error
        return self._path

    @property
    def named(self) -> Path:
        """The file under the name that it was given; asked for once.

        Raises:
            StoreUnavailable: There is no place for it.
        """
        if callable(self._named):
            with self._lock:
                if callable(self._named):
                    try:
                        self._named = self._named().absolute()
                    except OSError as error:
                        raise StoreUnavailable(f"no place for the store: {error}") from error
        return self._named

    @property
    def exists(self) -> bool:
        """Whether there is such a file.

        Raises:
            StoreUnavailable: That can't be found out.
        """
        try:
            return self._identity() is not None
        except NotADirectoryError:
            return False
        except OSError as error:
            self._fail(error)

    def read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        """Return all rows of a query."""
        return self._patiently(lambda c: c.execute(query, values).fetchall())

    def glance(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        """Return all rows of a query, or none where that is not to be had at once.

        The log lets it read while others write. It has a connection of its own, as this process's
        writers may keep theirs for seconds.
        """
        if not self._glance_lock.acquire(blocking=False):
            return []
        try:
            if self._glances is None or self._identity() != self._opened:
                return []
            return self._glances.execute(query, values).fetchall()
        except (sqlite3.Error, OSError, MemoryError):
            return []
        finally:
            self._glance_lock.release()

    def write(self, work: Callable[[sqlite3.Connection], _T], *, adds: bool = False) -> _T:
        """Do `work` in a transaction: all of it, or nothing.

        Args:
            work: May be called again, if what it did was undone.
            adds: Whether it may take room for good; what does not may use what is kept for it.
        """
        one = Part(work, adds=adds)
        try:
            self._waiting.append(one)
            with self._lock:
                if not one.is_done and (several := take(self._waiting, one)):
                    self._write_together(several)
        except BaseException:  # while it waited, too
            withdraw(self._waiting, one)
            raise
        if one.is_done:
            return one.result()
        return self._patiently(lambda connection: within(connection, work), adds=adds)

    def _write_together(self, parts: list[Part[Any]]) -> None:
        """Commit once for all who have waited: a commit costs more than what most of them do.

        Whatever fails is undone; then each goes on by itself.
        """
        try:
            connection = self._current()
            if any(part.adds for part in parts):
                self._keep_reserve(connection)
            within(connection, partial(do_all, parts))
        except Exception:  # whosever it is: each meets its own
            return
        for part in parts:
            part.is_done = True

    def require_room(self) -> None:
        """See that there is room for more than what deleting needs.

        Raises:
            StoreUnavailable: There is none.
        """
        self._patiently(lambda _: None, adds=True)

    def close(self) -> None:
        """Close this process's connection."""
        with self._lock, self._glance_lock:
            for connection in (self._connection, self._glances):
                if connection is not None:
                    connection.close()
            self._connection = self._glances = None

    def _patiently(self, work: Callable[[sqlite3.Connection], _T], *, adds: bool = False) -> _T:
        deadline = Deadline(PATIENCE)
        while True:
            try:
                with self._lock:
                    connection = self._current()
                    if adds:
                        self._keep_reserve(connection)
                    return self._with_room(connection, work, adds=adds)
            except sqlite3.Error as error:
                if _code(error) not in _BUSY or deadline.left <= 0:
                    self._fail(error)
            except (OSError, MemoryError) as error:
                self._fail(error)
            except UnicodeEncodeError as error:
                raise StoreError("SQLite can't keep text that is not Unicode") from error
            time.sleep(_JITTER.uniform(*NAP))

    def _with_room(
        self,
        connection: sqlite3.Connection,
        work: Callable[[sqlite3.Connection], _T],
        *,
        adds: bool,
    ) -> _T:
        """Do it; if there is no room, with what the log takes, or is kept for what adds nothing."""
        try:
            return work(connection)
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and _code(error) not in _NO_ROOM:
                raise
            if not adds:
                self._reserve.give_up()
            with suppress(sqlite3.Error, OSError):
                _shorten_log(self._current())
            return work(self._current())

    def _keep_reserve(self, connection: sqlite3.Connection) -> None:
        if self._reserve.keep():
            return
        _shorten_log(connection)
        [(pages,)] = connection.execute("PRAGMA freelist_count").fetchall()
        if not self._reserve.keep(spare=pages * PAGE):
            raise StoreUnavailable(f"there is no room for more on the disk of {self.path}")

    def _current(self) -> sqlite3.Connection:
        """Return the connection to the file that has the path now.

        One that was deleted could still be written to, but nobody else would ever see it.
        """
        if self._connection is not None and self._identity() != self._opened:
            self.close()
        if self._connection is None:
            self._connection = self._open()
            self._opened = self._identity()
            with suppress(sqlite3.Error):  # no descriptor is left: one can do without
                self._glances = self._connect()
        return self._connection

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _open(self) -> sqlite3.Connection:
        self.make()
        if os.stat(self.path).st_nlink > 1:
            logger.warning(
                "%s has several hard links: SQLite has a log for each name, and a database that is "
                "used by two of them is lost. A symbolic link is fine",
                self.path,
            )
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            # To bring what is in the log into the database may take as much as the reserve has.
            pages = max(1, self._reserve.size // PAGE)
            connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
            connection.execute("PRAGMA temp_store = MEMORY")
            self._migrate(connection)
            self._add(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        with _OPENING:
            return sqlite3.connect(
                self.path,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
                factory=_Connection,
            )

    def make(self) -> None:
        """Make the file, which -wal and -shm take their mode from, if there is none.

        One that exists is never opened here: closing it would drop the locks that another
        connection of this process has on it.

        Raises:
            OSError: It can't be made.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

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
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise StoreError(f"{self.path} holds something else: choose another file")
            for statement in self._schema.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")

    @staticmethod
    def _version(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    def _fail(self, error: sqlite3.Error | OSError | MemoryError) -> NoReturn:
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


class _Forks:
    """Closes every connection before this process forks; each opens again at its next use."""

    def __init__(self) -> None:
        self._held: list[Any] = []
        self._forking = threading.RLock()

    def before(self) -> None:
        """Wait until nobody uses a connection, and close it."""
        self._forking.acquire()  # one fork at a time: they share what is held
        databases = list(_DATABASES)
        locks = [lock for each in databases for lock in (each._lock, each._glance_lock)]
        for lock in (*locks, _OPENING):
            lock.acquire()
            self._held.append(lock)
        for database in databases:
            database.close()

    def after_in_child(self) -> None:
        """Go on in the fork, in which nobody is who has waited to write."""
        for database in list(_DATABASES):
            database._waiting.clear()
        self.after()

    def after(self) -> None:
        """Go on."""
        while self._held:
            self._held.pop().release()
        self._forking.release()


_DATABASES: weakref.WeakSet[Database] = weakref.WeakSet()
_OPENING = threading.RLock()
_FORKS = _Forks()
os.register_at_fork(
    before=_FORKS.before, after_in_parent=_FORKS.after, after_in_child=_FORKS.after_in_child
)


def _shorten_log(connection: sqlite3.Connection) -> None:
    """Bring what is in the log into the database: it may be the log that takes the room."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _code(error: Exception) -> int:
    """Return SQLite's primary result code; 0 for what has none."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
