"""The default store: one SQLite file that all processes of one machine share.

Records, requests and small chunks are rows; larger chunks go to files beside the database, so
that a big body neither blocks other writers nor fills memory. On a local disk only: the
write-ahead log needs shared memory, which network file systems don't give.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import starmap
from operator import attrgetter
from pathlib import Path
from sqlite3 import Connection, sqlite_version
from typing import Any
from urllib.parse import unquote, urlsplit

from raincheck.errors import BodyMissing, ConfigurationError, StoreError, abbreviate
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, is_mere_renewal
from raincheck.operations.records import decode, decode_request, encode, encode_request
from raincheck.operations.store import KEPT_AGE, LEFTOVER_AGE, Filter
from raincheck.stores import not_a_store
from raincheck.stores.describing import Description
from raincheck.stores.reading import Reader, Row, decode_again, fetched
from raincheck.stores.sqlite import additions
from raincheck.stores.sqlite.bodies import BodyFiles
from raincheck.stores.sqlite.database import SCHEMA_VERSION, Database
from raincheck.stores.sqlite.deleting import delete_bodies, delete_old, delete_request
from raincheck.stores.sqlite.processes import ProcessLock

ROW_LIMIT = 64 * 1024  # bytes; from here on a file is faster, and others' writes don't wait for it
LOOK = 0.005  # seconds between a watch's looks: together they take a few percent of a CPU
SWEEP_STEP = 0.2  # seconds of sweeping in one purge
CHANGES_KEPT = 1_000  # at least; a watch that falls behind further than that misses some

SCHEMA = """
CREATE TABLE operations (
    id TEXT PRIMARY KEY, version INTEGER NOT NULL, state TEXT NOT NULL, created REAL NOT NULL,
    owner TEXT, queue TEXT, worker TEXT, lease REAL, expires REAL, forgotten INTEGER NOT NULL,
    dedupe TEXT UNIQUE, document TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX operations_by_state ON operations (state, created);
CREATE INDEX operations_by_expiry ON operations (expires) WHERE expires IS NOT NULL;
CREATE INDEX operations_by_owner ON operations (owner, created) WHERE owner IS NOT NULL;
CREATE TABLE requests (operation_id TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE chunks (
    operation_id TEXT NOT NULL, fence INTEGER NOT NULL, n INTEGER NOT NULL,
    data BLOB, start INTEGER, size INTEGER NOT NULL, written REAL NOT NULL,
    UNIQUE (operation_id, fence, n)
);
"""
_Chunk = tuple[bytes | None, int | None, int]  # in a row, or where in the file; and its size
_COLUMNS = (
    "version, state, created, owner, queue, worker, lease, expires, forgotten, application_name, "
    "document"
)
_BODIES = """
    SELECT operation_id, EXISTS (SELECT 1 FROM operations WHERE id = operation_id)
    FROM (SELECT DISTINCT operation_id FROM chunks WHERE operation_id > ?
          ORDER BY operation_id LIMIT 500)"""
# As bytes: where a disk has spoilt it, it may be no text.
_HELD = "SELECT CAST(document AS BLOB) FROM operations WHERE dedupe = ?"
_RECORD = "SELECT CAST(document AS BLOB) FROM operations WHERE id = ?"
_CHUNK = "SELECT data, start, size FROM chunks WHERE operation_id = ? AND fence = ? AND n = ?"
_IN_FILE = "SELECT 1 FROM chunks WHERE operation_id = ? AND fence = ? AND data IS NULL LIMIT 1"
_NAMES = [name.strip() for name in _COLUMNS.split(",")]
_SET = ", ".join(f"{name} = ?" for name in _NAMES)
_columns_of = attrgetter(*_NAMES[:-1])  # all but the document


def from_url(url: str) -> SQLiteStore:
    """Return the store in a file: `sqlite:///absolute/path.db` or `sqlite:relative.db`.

    `?synchronous=full` makes SQLite wait for the disk at every commit, so that not even a power cut
    loses one.

    Raises:
        ConfigurationError: The URL names no file, or has another parameter.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if not path.strip("/") or "\0" in path or parts.netloc or parts.fragment:
        raise not_a_store(url)
    return SQLiteStore(path, synchronous=_synchronous(parts.query))


def _synchronous(query: str) -> str:
    name, _, value = query.partition("=")
    if not query:
        return "normal"
    if name != "synchronous" or value not in ("normal", "full"):
        raise ConfigurationError(
            "a store takes ?synchronous=normal or ?synchronous=full, nothing else"
        )
    return value


class SQLiteStore:
    """Keep operations in an SQLite file, usable by many processes of one machine.

    Args:
        path: The database file, or a callable that says which at first use. Its directory is
            made if need be; everything in it is readable by its owner only.
        synchronous: `normal` (default): no kill of any process loses a commit, a power cut may
            lose the last ones. `full`: not even that, at a fifth of the speed.
        clock: Returns seconds since the epoch; all users of a file must agree on it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Callable[[], Path],
        *,
        synchronous: str = "normal",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._database = Database(path, SCHEMA, synchronous, additions.add)
        self._bodies = BodyFiles(lambda: self._beside("-bodies"), durable=synchronous == "full")
        self._process = ProcessLock(self._database, lambda: self._beside("-processes"))
        self._reader = Reader()
        self._swept = 0.0
        self._rest: Iterator[None] | None = None  # of a sweep

    def _beside(self, suffix: str) -> list[Path]:
        """Return what lies beside the file, and beside a link to it: there it once did."""
        places = dict.fromkeys((self._database.path, self._database.named))
        return [path.with_name(path.name + suffix) for path in places]

    def create(
        self, operation: Operation, request: Request | None = None, dedupe: str | None = None
    ) -> Operation:
        def work(connection: Connection) -> Operation:
            if dedupe is not None and (held := connection.execute(_HELD, (dedupe,)).fetchone()):
                return decode(held[0])
            insert = f"INSERT OR IGNORE INTO operations (id, dedupe, {_COLUMNS})"
            values = (operation.id, dedupe, *_row(operation))
            marks = ", ".join("?" * len(values))
            if not connection.execute(f"{insert} VALUES ({marks})", values).rowcount:
                query = "SELECT 1 FROM operations WHERE id = ? AND document = ?"
                if not connection.execute(query, (operation.id, values[-1])).fetchone():
                    raise StoreError(f"operation {abbreviate(operation.id)} exists already")
            elif request is not None:
                values = (operation.id, encode_request(request))
                connection.execute("INSERT INTO requests VALUES (?, ?)", values)
            _note_change(connection, operation.id)
            return operation

        return self._database.write(work, adds=True)

    def holder(self, dedupe: str) -> Operation | None:
        rows = self._database.read(_HELD, (dedupe,))
        return decode(rows[0][0]) if rows else None

    def get(self, operation_id: str) -> Operation | None:
        rows = self._database.read(_RECORD, (_as_text(operation_id),))
        return decode(rows[0][0]) if rows else None

    def fetch(self, operation_id: str) -> tuple[Operation, Request | None] | None:
        rows = self._database.read(additions.WITH_REQUEST, (_as_text(operation_id),))
        return fetched(*rows[0]) if rows else None

    def glance(self, operation_id: str) -> Operation | None:
        rows = self._database.glance(_RECORD, (_as_text(operation_id),))
        return decode_again(rows[0][0]) if rows else None

    def swap(
        self,
        old: Operation,
        new: Operation,
        *,
        drop_request: bool = False,
        drop_dedupe: bool = False,
    ) -> bool:
        return self._swap(old, new, drop_request, drop_dedupe)

    def conclude(
        self,
        old: Operation,
        new: Operation,
        n: int,
        data: bytes,
        *,
        drop_request: bool = False,
        drop_dedupe: bool = False,
    ) -> bool:
        if len(data) < ROW_LIMIT:
            return self._swap(old, new, drop_request, drop_dedupe, (n, data))
        self.write_chunk(new.id, new.fence, n, data)
        return self._swap(old, new, drop_request, drop_dedupe)

    def _swap(
        self,
        old: Operation,
        new: Operation,
        drop_request: bool,
        drop_dedupe: bool,
        last: tuple[int, bytes] | None = None,
    ) -> bool:
        columns = f"{_SET}, dedupe = NULL" if drop_dedupe else _SET
        update = f"UPDATE operations SET {columns} WHERE id = ? AND (version = ? OR document = ?)"  # noqa: S608
        row = _row(new)
        values = (*row, old.id, old.version, row[-1])

        def work(connection: Connection) -> list[tuple[str, int]] | None:
            if connection.execute(update, values).rowcount != 1:
                return None
            if not is_mere_renewal(old, new):
                _note_change(connection, new.id)
            if last is not None:
                chunk = (last[1], None, len(last[1]))
                self._insert_chunk(connection, new.id, new.fence, last[0], chunk)
            return delete_request(connection, new.id) if drop_request else []

        files = self._database.write(work, adds=last is not None)
        self._bodies.remove(files or ())
        return files is not None

    def read_request(self, operation_id: str) -> Request | None:
        query = "SELECT CAST(document AS BLOB) FROM requests WHERE operation_id = ?"
        rows = self._database.read(query, (operation_id,))
        return decode_request(rows[0][0]) if rows else None

    def write_chunk(self, operation_id: str, fence: int, n: int, data: bytes) -> None:
        if len(data) >= ROW_LIMIT:
            self._database.require_room()
        chunk = self._place(operation_id, fence, data)

        def work(connection: Connection) -> bool:
            rows = connection.execute(_RECORD, (operation_id,)).fetchone()
            if self._reader.is_overtaken(rows and rows[0], fence):
                # Its file goes with the rows of it that an end has not deleted yet.
                return bool(connection.execute(_IN_FILE, (operation_id, fence)).fetchone())
            self._insert_chunk(connection, operation_id, fence, n, chunk)
            return True

        if not self._database.write(work, adds=True) and chunk[0] is None:
            self._bodies.remove([(operation_id, fence)])

    def _place(self, operation_id: str, fence: int, data: bytes) -> _Chunk:
        """Write what is large to its file, outside of any transaction: others need not wait."""
        if len(data) < ROW_LIMIT:
            return data, None, len(data)
        return None, self._bodies.append(operation_id, fence, data), len(data)

    def _insert_chunk(
        self, connection: Connection, operation_id: str, fence: int, n: int, chunk: _Chunk
    ) -> None:
        values = (operation_id, fence, n, *chunk, self._clock())
        connection.execute("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def glance_at_chunk(self, operation_id: str, fence: int, n: int) -> bytes | None:
        rows = self._database.glance(_CHUNK, (operation_id, fence, n))
        return rows[0][0] if rows else None  # and None, too, if it is in a file

    def read_chunks(self, operation_id: str, fence: int, start: int, stop: int) -> Iterator[bytes]:
        with self._bodies.reader(operation_id, fence) as read:
            for n in range(start, stop):
                rows = self._database.read(_CHUNK, (operation_id, fence, n))
                if not rows:
                    raise BodyMissing(operation_id, fence)
                data, position, size = rows[0]
                yield read(position, size) if data is None else data

    def discard(self, operation_id: str) -> None:
        files = self._database.write(lambda c: delete_bodies(c, [operation_id]))
        self._bodies.remove(files)

    def find(
        self, which: Filter, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[Operation], str | None]:
        def fetch(last: Row | None) -> list[Row]:
            after = cursor if last is None else f"{last.moment!r} {last.key}"
            query, values = additions.to_find(which, after)
            return list(starmap(Row, self._database.read(query, (*values, limit + 1))))

        return self._reader.read_page(fetch, limit, which)

    def count(self, which: Filter, limit: int) -> int:
        clause, values = additions.to_select(which)
        query = f"SELECT count(*) FROM (SELECT 1 FROM {clause} LIMIT ?)"  # noqa: S608
        return int(self._database.read(query, (*values, limit))[0][0])

    def workers(self) -> set[str]:
        rows = self._database.read(additions.WORKERS, ())
        return {worker for (worker,) in rows if worker is not None}

    def purge(self, before: float, limit: int = 500) -> int:
        def work(connection: Connection) -> tuple[int, list[tuple[str, int]]]:
            due = Filter(forgotten=True, expires_before=before)
            clause, values = additions.to_select(due)
            found = connection.execute(f"SELECT id FROM {clause} LIMIT ?", (*values, limit))  # noqa: S608
            ids = [row[0] for row in found]
            files = delete_bodies(connection, ids)
            connection.executemany("DELETE FROM operations WHERE id = ?", [(i,) for i in ids])
            return len(ids), files

        deleted, files = self._database.write(work)
        self._bodies.remove(files)
        self._sweep()
        return deleted

    def _sweep(self) -> None:
        """Go on with a sweep for a moment, or begin one if the last was begun an hour ago."""
        before, (rest, self._rest) = self._clock() - LEFTOVER_AGE, (self._rest, None)
        if rest is None and self._swept <= before:
            self._swept, rest = self._clock(), self._delete_leftovers(before)
        end = time.monotonic() + SWEEP_STEP
        while rest is not None and next(rest, "the end") != "the end":
            if time.monotonic() > end:
                self._rest = rest
                break

    def _delete_leftovers(self, before: float) -> Iterator[None]:
        """Delete what a killed process left: chunks without a record, files without a chunk."""
        last, long_ago = "", before + LEFTOVER_AGE - KEPT_AGE
        self._database.write(
            lambda c: c.execute("DELETE FROM kept WHERE written <= ?", (long_ago,))
        )
        while page := self._database.read(_BODIES, (last,)):
            last = page[-1][0]
            if strays := [operation_id for operation_id, has_record in page if not has_record]:
                self._bodies.remove(self._database.write(partial(delete_old, strays, before)))
            yield
        known = "SELECT 1 FROM chunks WHERE operation_id = ? AND fence = ? LIMIT 1"
        for file in self._bodies.older_than(before):
            if not self._database.read(known, file):
                self._bodies.remove([file])
            yield

    def recall(self, name: str) -> bytes | None:
        rows = self._database.read(additions.RECALL, (name,))
        return rows[0][0] if rows else None

    def keep(self, name: str, old: bytes | None, new: bytes) -> bool:
        now = self._clock()
        return self._database.write(lambda c: additions.keep(c, name, old, new, now), adds=True)

    def watch(self, interval: float) -> Generator[str | None, None, None]:
        query = "SELECT n, operation_id FROM changes WHERE n > ? ORDER BY n"
        [(last,)] = self._database.read("SELECT coalesce(max(n), 0) FROM changes", ())
        yield None
        quiet_since = time.monotonic()
        while True:
            changes = self._database.read(query, (last,))
            if changes and changes[0][0] > last + 1:  # some were deleted before they were seen
                yield None
            for n, operation_id in changes:
                yield operation_id
                last, quiet_since = n, time.monotonic()
            if time.monotonic() - quiet_since >= interval:
                yield None
                quiet_since = time.monotonic()
            time.sleep(LOOK)

    def now(self) -> float:
        return self._clock()

    def close(self) -> None:
        self._database.close()

    def describe(self) -> Description:
        path = self._database.path
        tables = SCHEMA_VERSION if self._database.exists and self.get("none") is None else 0
        return Description(
            "SQLite", str(path), sqlite_version, tables, SCHEMA_VERSION, orders_states=True
        )

    def complete(self, beginning: str, limit: int) -> list[str]:
        query = "SELECT id FROM operations WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
        rows = self._database.read(query, (beginning, f"{beginning}\U0010ffff", limit))
        return [operation_id for (operation_id,) in rows]

    def incarnation(self) -> str:
        return self._process.name()

    def lives(self, incarnation: str) -> bool:
        return self._process.is_held(incarnation)


def _as_text(value: str) -> str:
    """Make any string bindable: one with lone surrogates is nobody's id."""
    is_text = value.isascii() or not any("\ud800" <= each <= "\udfff" for each in value)
    return value if is_text else ""


def _row(operation: Operation) -> tuple[Any, ...]:
    return (*_columns_of(operation), encode(operation))


def _note_change(connection: Connection, operation_id: str) -> None:
    """Tell watches of a change, and forget old ones now and then."""
    insert = "INSERT INTO changes (operation_id) VALUES (?)"
    n = connection.execute(insert, (operation_id,)).lastrowid or 0
    if n % CHANGES_KEPT == 0:  # never all of them: numbers would begin anew
        connection.execute("DELETE FROM changes WHERE n <= ?", (n - CHANGES_KEPT,))
