"""A store in a PostgreSQL database, for any number of processes on any number of machines.

Each call is one statement, and nothing is left in a session: so it works through poolers that give
each transaction another one. What `find` filters by has a column; the record itself is JSON.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import starmap
from typing import Any

from raincheck.engine.per_process import PerProcess
from raincheck.errors import BodyMissing, StoreError, StoreUnavailable, abbreviate
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, is_mere_renewal
from raincheck.operations.records import decode, decode_request, encode_request
from raincheck.operations.store import KEPT_AGE, LEFTOVER_AGE, Filter
from raincheck.stores.describing import Description
from raincheck.stores.patience import TIMEOUT
from raincheck.stores.postgresql.connections import Connection
from raincheck.stores.postgresql.listening import Listener, from_hint, to_hint
from raincheck.stores.postgresql.process import Process
from raincheck.stores.postgresql.schema import STEPS, Prepared, Schema
from raincheck.stores.postgresql.statements import (
    BATCH,
    LAST,
    Statements,
    Values,
    as_key,
    from_key,
    to_values,
)
from raincheck.stores.postgresql.url import POOL, parse_url
from raincheck.stores.reading import Reader, Row, fetched, read_known

SELF_TEST = 1.0  # seconds after which a listener that does not hear itself is taken to be deaf
POLLING = 0.5  # seconds, where nothing can be heard

logger = logging.getLogger("raincheck")


def from_url(url: str) -> PostgreSQLStore:
    """Return the store in a database: `postgresql://user:password@host:5432/database`.

    Several hosts, `?sslmode=…` and all else that libpq knows may be in it, and:

        schema: The schema of the tables (default: the first in the role's search path).
        timeout: Seconds that a call may take (5; at most 10).
        pool: Connections per process, at most (8); `watch` has one more.

    Raises:
        ConfigurationError: The URL says something else, or the same twice.
    """
    parsed = parse_url(url)
    return PostgreSQLStore(
        parsed.parameters, schema=parsed.schema, timeout=parsed.timeout, pool=parsed.pool
    )


class PostgreSQLStore:
    """Keep operations in a PostgreSQL database; its tables are made at first use, if allowed.

    Args:
        parameters: libpq's connection parameters, by name.
        schema: The schema of the tables; None for the first one in the role's search path.
        timeout: Seconds that an attempt at a call may take.
        pool: How many connections a process may have; `watch` has one more.
        clock: Returns seconds since the epoch; None for the server's clock.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        schema: str | None = None,
        timeout: float = TIMEOUT,
        pool: int = POOL,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._schema = Schema(schema)
        self._statements = Statements(self._schema.tables)
        self._clock = clock
        self._reader = Reader()
        self._process_of = PerProcess(partial(Process, parameters, self._schema, timeout, pool))

    @property
    def _process(self) -> Process:
        return self._process_of.get()

    def prepare(self) -> Prepared:
        """Make the tables, or bring them up to date; tell what was found and what is there now.

        Raises:
            StoreError: The tables are of a newer version, or this role may not make them.
        """
        return self._process.prepare()

    def describe(self) -> Description:
        found, server = self._process.look()
        schema = found.schema or "the first of the search_path"
        place, version = f"{self._process.place}, schema {schema}", divmod(server, 10_000)
        numbers = ".".join(map(str, version))
        return Description("PostgreSQL", place, numbers, found.now, len(STEPS))

    def complete(self, beginning: str, limit: int) -> list[str]:
        values = {"from": as_key(beginning), "to": as_key(beginning) + LAST, "limit": limit}
        return [from_key(key) for (key,) in self._rows(self._statements.complete, values)]

    def create(
        self, operation: Operation, request: Request | None = None, dedupe: str | None = None
    ) -> Operation:
        values = to_values(operation)
        values |= {
            "dedupe": None if dedupe is None else as_key(dedupe),
            "request": None if request is None else encode_request(request),
            "hint": to_hint(operation.id),
        }

        def work(connection: Connection) -> Operation:
            # What has been committed since the statement began is seen by the next one only.
            rows = self._make(connection, operation, values)
            rows = rows or connection.execute(self._statements.held, values).fetchall()
            if rows:
                return _created(operation, values, rows)
            raise StoreUnavailable("the operation that was in the way is gone: try again")

        values["channel"] = self._process.channel()
        return self._process.call(work)

    def _make(
        self, connection: Connection, operation: Operation, values: Values
    ) -> list[tuple[Any, ...]]:
        """Make the operation, unless others are in the way; return what `_created` reads."""
        return connection.execute(self._statements.create, values).fetchall()

    def holder(self, dedupe: str) -> Operation | None:
        rows = self._rows(self._statements.holder, {"dedupe": as_key(dedupe)})
        return decode(rows[0][0]) if rows else None

    def get(self, operation_id: str) -> Operation | None:
        rows = self._rows(self._statements.get, {"id": as_key(operation_id)})
        return decode(rows[0][0]) if rows else None

    def fetch(self, operation_id: str) -> tuple[Operation, Request | None] | None:
        rows = self._rows(self._statements.fetch, {"id": as_key(operation_id)})
        return fetched(*rows[0]) if rows else None

    def get_all(self, operation_ids: Collection[str]) -> dict[str, Operation]:
        keys = [as_key(each) for each in operation_ids]
        return read_known(row[0] for row in self._rows(self._statements.get_all, {"ids": keys}))

    def swap(
        self,
        old: Operation,
        new: Operation,
        *,
        drop_request: bool = False,
        drop_dedupe: bool = False,
    ) -> bool:
        values = {**to_values(new), "expected": old.version}
        drops = {"drop_request": drop_request, "drop_dedupe": drop_dedupe}
        if is_mere_renewal(old, new) and not any(drops.values()):
            return self._count(self._statements.swap, values) == 1
        values |= {"channel": self._process.channel(), "hint": to_hint(new.id)}
        if any(drops.values()):
            return self._count(self._statements.swap_and_drop, values | drops) == 1
        return self._count(self._statements.swap_and_tell, values) == 1

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
        values = {**to_values(new), "expected": old.version}
        values |= {"drop_request": drop_request, "drop_dedupe": drop_dedupe}
        values |= {"channel": self._process.channel(), "hint": to_hint(new.id)}
        values |= _chunk(new.id, new.fence, n) | {"data": data, "written": self.now()}
        return self._count(self._statements.end, values) == 1

    def read_request(self, operation_id: str) -> Request | None:
        rows = self._rows(self._statements.read_request, {"id": as_key(operation_id)})
        return decode_request(rows[0][0]) if rows else None

    def write_chunk(self, operation_id: str, fence: int, n: int, data: bytes) -> None:
        values = _chunk(operation_id, fence, n) | {"data": data, "written": self.now()}
        self._count(self._statements.write_chunk, values)

    def read_chunks(self, operation_id: str, fence: int, start: int, stop: int) -> Iterator[bytes]:
        for n in range(start, stop):
            rows = self._rows(self._statements.read_chunk, _chunk(operation_id, fence, n))
            if not rows:
                raise BodyMissing(operation_id, fence)
            yield rows[0][0]

    def discard(self, operation_id: str) -> None:
        self._discard([as_key(operation_id)])

    def find(
        self, which: Filter, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[Operation], str | None]:
        def fetch(last: Row | None) -> list[Row]:
            after = cursor if last is None else f"{last.moment!r} {last.key}"
            statement, values = self._statements.find(which, after)
            if last is not None:
                values["after"] = last.key  # as it is in its column already
            return list(starmap(Row, self._rows(statement, values | {"limit": limit + 1})))

        return self._reader.read_page(fetch, limit, which, from_key)

    def count(self, which: Filter, limit: int) -> int:
        statement, values = self._statements.count(which)
        return int(self._rows(statement, values | {"limit": limit})[0][0])

    def workers(self) -> set[str]:
        rows = self._rows(self._statements.workers, {})
        return {from_key(worker) for (worker,) in rows if worker is not None}

    def purge(self, before: float, limit: int = 500) -> int:
        rows = self._rows(self._statements.purge, {"before": before, "limit": limit})
        if rows:  # a process that dies here leaves chunks, which are swept an hour later
            self._discard([row[0] for row in rows])
        self._sweep()
        return len(rows)

    def _sweep(self) -> None:
        """Delete what a killed process left, in one process an hour."""
        now = self.now()
        values: Values = {"now": now, "before": now - LEFTOVER_AGE}
        if self._count(self._statements.begin_sweep, values):
            self._repeat(self._statements.sweep, values)
            self._count(self._statements.forget, {"before": now - KEPT_AGE})

    def _discard(self, keys: list[str]) -> None:
        self._repeat(self._statements.discard, {"ids": keys})

    def _repeat(self, statement: str, values: Values) -> None:
        """Delete batch after batch, so that no transaction is long."""
        while self._count(statement, values) >= BATCH:
            pass

    def _rows(self, statement: str, values: Values) -> list[tuple[Any, ...]]:
        return self._process.call(lambda c: c.execute(statement, values, binary=True).fetchall())

    def _count(self, statement: str, values: Values) -> int:
        return self._process.call(lambda c: c.execute(statement, values).rowcount)

    def recall(self, name: str) -> bytes | None:
        rows = self._rows(self._statements.recall, {"name": name})
        return rows[0][0] if rows else None

    def keep(self, name: str, old: bytes | None, new: bytes) -> bool:
        statement = self._statements.keep_first if old is None else self._statements.keep
        values = {"name": name, "old": old, "new": new, "now": self.now()}
        return self._count(statement, values) == 1

    def watch(self, interval: float) -> Generator[str | None, None, None]:
        process = self._process
        if not process.is_deaf:
            with closing(process.listen()) as listener:
                if self._hears_itself(process, listener):
                    yield None
                    yield from _hints(listener, interval)
        process.is_deaf = True
        while True:
            yield None
            time.sleep(min(interval, POLLING))

    def _hears_itself(self, process: Process, listener: Listener) -> bool:
        token = secrets.token_hex(8)
        process.call(lambda c: c.execute("SELECT pg_notify(%s, %s)", (listener.channel, token)))
        if listener.hears(token, SELF_TEST):
            return True
        listener.give_up()
        logger.info(
            "PostgreSQL at %s notifies nobody, as poolers in transaction mode don't: "
            "looking every %g s for what has changed",
            process.place,
            POLLING,
        )
        return False

    def now(self) -> float:
        return self._process.now() if self._clock is None else self._clock()

    def close(self) -> None:
        process = self._process_of.take()
        if process is not None:
            process.close()


def _chunk(operation_id: str, fence: int, n: int) -> Values:
    return {"id": as_key(operation_id), "fence": fence, "n": n}


def is_made(rows: list[tuple[Any, ...]]) -> bool:
    """Tell from what a statement returned whether it has made the operation."""
    return any(document is None for document, _ in rows)


def _created(operation: Operation, values: Values, rows: list[tuple[Any, ...]]) -> Operation:
    """Tell from what a statement returned which operation there is now.

    Args:
        rows: Documents that were there before, and whether they hold the same dedupe key; no
            document stands for the new operation.
    """
    for document, holds_key in rows:
        if holds_key:
            return decode(document)
    if is_made(rows) or any(document == values["document"] for document, _ in rows):
        return operation
    raise StoreError(f"operation {abbreviate(operation.id)} exists already")


def _hints(listener: Listener, interval: float) -> Iterator[str | None]:
    while True:
        heard = listener.hear(interval)
        yield from (from_hint(hint) for hint in heard)
        if not heard:
            yield None
