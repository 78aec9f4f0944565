"""The statements of a PostgreSQL store, and how operations become their values. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from raincheck.operations.operation import REQUEST_FENCE, SETTLED, TERMINAL, Operation, State
from raincheck.operations.records import encode
from raincheck.operations.store import Filter
from raincheck.stores.paging import parse_cursor
from raincheck.stores.postgresql.schema import Tables

BATCH = 256  # chunks that one statement deletes: 64 MiB, far from any deadline
LAST = "\x7f"  # no letter of a key comes after it
LONGEST_KEY = 1000  # characters; an index takes no more than 2700 bytes

Values = dict[str, Any]
_NUMBERS = ("version", "created", "lease", "expires", "forgotten")
_TEXTS = ("state", "owner", "queue", "worker", "application_name")
_CHANGING = (*_NUMBERS, *_TEXTS, "due", "document")


# ruff: noqa: S608 - `{…}` are the quoted names of tables; everything else is a parameter.

_HOLDS_KEY = "dedupe = %(dedupe)s::text"
_HOLDER = f"SELECT document FROM {{operations}} WHERE {_HOLDS_KEY}"
_HELD = f"""
    SELECT document, coalesce({_HOLDS_KEY}, false) FROM {{operations}}
    WHERE (id = %(id)s OR {_HOLDS_KEY})"""
_CREATE = f"""
    WITH made AS (
        INSERT INTO {{operations}} (id, dedupe, {", ".join(_CHANGING)})
        VALUES (%(id)s, %(dedupe)s, {", ".join(f"%({name})s" for name in _CHANGING)})
        ON CONFLICT DO NOTHING RETURNING id
    ), kept AS (
        INSERT INTO {{requests}} (operation_id, document)
        SELECT id, %(request)s::text FROM made WHERE %(request)s::text IS NOT NULL
    )
    SELECT NULL, pg_notify(%(channel)s, %(hint)s) IS NULL FROM made
    UNION ALL {_HELD} AND NOT EXISTS (SELECT FROM made)"""
_SET = ", ".join(f"{name} = %({name})s" for name in _CHANGING)
_STILL = "WHERE id = %(id)s AND (version = %(expected)s OR document = %(document)s)"
_SWAP = f"UPDATE {{operations}} SET {_SET} {_STILL}"
_SWAP_AND_TELL = f"""
    WITH changed AS ({_SWAP} RETURNING id) SELECT pg_notify(%(channel)s, %(hint)s) FROM changed"""
_END = """, chunk AS (
        INSERT INTO {chunks} (operation_id, fence, n, data, written)
        SELECT id, %(fence)s, %(n)s, %(data)b, %(written)s FROM changed
        ON CONFLICT (operation_id, fence, n)
        DO UPDATE SET data = excluded.data, written = excluded.written
    )"""
_SWAP_AND_DROP = f"""
    WITH changed AS (
        UPDATE {{operations}} SET {_SET},
            dedupe = CASE WHEN %(drop_dedupe)s THEN NULL ELSE dedupe END
        {_STILL} RETURNING id
    ), with_request AS (
        SELECT id FROM changed WHERE %(drop_request)s
    ), no_request AS (
        DELETE FROM {{requests}} USING with_request WHERE operation_id = id
    ), no_body AS (
        DELETE FROM {{chunks}} USING with_request
        WHERE operation_id = id AND fence = {REQUEST_FENCE}
    ){{and_also}}
    SELECT pg_notify(%(channel)s, %(hint)s) FROM changed"""
_COMPLETE = """
    SELECT id FROM {operations} WHERE id >= %(from)s AND id < %(to)s ORDER BY id LIMIT %(limit)s"""
_GET = "SELECT document FROM {operations} WHERE id = %(id)s"
_GET_ALL = "SELECT document FROM {operations} WHERE id = ANY(%(ids)s)"
_FETCH = """
    SELECT operations.document, requests.document FROM {operations} AS operations
    LEFT JOIN {requests} AS requests ON operation_id = id WHERE id = %(id)s"""
_READ_REQUEST = "SELECT document FROM {requests} WHERE operation_id = %(id)s"
_FIND = """
    SELECT {moment}, id, document FROM {operations} WHERE {conditions}
    ORDER BY {moment}, id LIMIT %(limit)s"""
_COUNT = """
    SELECT count(*) FROM (
        SELECT FROM {operations} WHERE {conditions} LIMIT %(limit)s) AS counted"""
_WORKERS = "SELECT DISTINCT worker FROM {operations} WHERE state IN ('cancelling', 'running')"
# The lock lets no end pass by: it comes before, and is seen here, or after, and deletes the chunk.
_SETTLED = f"IN {tuple(map(str, sorted(SETTLED)))}"
_WRITE_CHUNK = f"""
    WITH record AS (SELECT state, document FROM {{operations}} WHERE id = %(id)s FOR SHARE),
    claim AS (
        SELECT state, coalesce((document::json ->> 'fence')::bigint, 0) AS fence FROM record
        WHERE %(fence)s <> {REQUEST_FENCE}
    )
    INSERT INTO {{chunks}} (operation_id, fence, n, data, written)
    SELECT %(id)s, %(fence)s, %(n)s, %(data)b, %(written)s WHERE NOT EXISTS (
        SELECT FROM claim WHERE fence > %(fence)s OR (fence = %(fence)s AND state {_SETTLED}))
    ON CONFLICT (operation_id, fence, n)
    DO UPDATE SET data = excluded.data, written = excluded.written"""
_READ_CHUNK = """
    SELECT data FROM {chunks} WHERE operation_id = %(id)s AND fence = %(fence)s AND n = %(n)s"""
# Whoever else is just deleting the same is not waited for.
_DISCARD = f"""
    WITH gone AS (DELETE FROM {{requests}} WHERE operation_id = ANY(%(ids)s))
    DELETE FROM {{chunks}} WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {{chunks}} WHERE operation_id = ANY(%(ids)s)
        LIMIT {BATCH} FOR UPDATE SKIP LOCKED))"""
_PURGE = """
    WITH due AS MATERIALIZED (
        SELECT id FROM {operations} WHERE forgotten AND expires <= %(before)s
        ORDER BY expires LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ), purged AS (
        DELETE FROM {operations} AS operation USING due WHERE operation.id = due.id
        RETURNING operation.id
    ), gone AS (
        DELETE FROM {requests} USING purged WHERE operation_id = purged.id
    )
    SELECT id FROM purged"""
_BEGIN_SWEEP = "UPDATE {schema_table} SET swept = %(now)s WHERE swept <= %(before)s"
_SWEEP = f"""
    DELETE FROM {{chunks}} WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {{chunks}} AS chunk WHERE written <= %(before)s
        AND NOT EXISTS (SELECT FROM {{operations}} WHERE id = chunk.operation_id)
        LIMIT {BATCH} FOR UPDATE OF chunk SKIP LOCKED))"""

_RECALL = "SELECT value FROM {kept} WHERE name = %(name)s"
_KEEP_FIRST = """
    INSERT INTO {kept} AS kept (name, value, written) VALUES (%(name)s, %(new)b, %(now)s)
    ON CONFLICT (name) DO UPDATE SET written = excluded.written WHERE kept.value = excluded.value"""
_KEEP = """
    UPDATE {kept} SET value = %(new)b, written = %(now)s
    WHERE name = %(name)s AND value IN (%(old)b, %(new)b)"""
_FORGET = "DELETE FROM {kept} WHERE written <= %(before)s"


class Statements:
    """Each statement, for the tables of one schema."""

    def __init__(self, tables: Tables) -> None:
        self._names = tables._asdict()
        self.create, self.held = self._fill(_CREATE), self._fill(_HELD)
        self.holder, self.complete = self._fill(_HOLDER), self._fill(_COMPLETE)
        self.get, self.get_all = self._fill(_GET), self._fill(_GET_ALL)
        self.fetch, self.read_request = self._fill(_FETCH), self._fill(_READ_REQUEST)
        self.swap, self.swap_and_tell = self._fill(_SWAP), self._fill(_SWAP_AND_TELL)
        self.swap_and_drop = self._fill(_SWAP_AND_DROP, and_also="")
        self.end = self._fill(_SWAP_AND_DROP, and_also=self._fill(_END))
        self.write_chunk, self.read_chunk = self._fill(_WRITE_CHUNK), self._fill(_READ_CHUNK)
        self.discard, self.purge = self._fill(_DISCARD), self._fill(_PURGE)
        self.workers = self._fill(_WORKERS)
        self.recall, self.forget = self._fill(_RECALL), self._fill(_FORGET)
        self.keep, self.keep_first = self._fill(_KEEP), self._fill(_KEEP_FIRST)
        self.begin_sweep, self.sweep = self._fill(_BEGIN_SWEEP), self._fill(_SWEEP)

    def _fill(self, template: str, **parts: str) -> str:
        return template.format(**self._names, **parts)

    def find(self, which: Filter, cursor: str | None) -> tuple[str, Values]:
        """Return the statement for a filter, and its values but for the limit."""
        conditions, values = self._select(which)
        moment = "created" if which.expires_before is None else "expires"
        if cursor is not None:
            values["moment"], operation_id = parse_cursor(cursor)
            values["after"] = as_key(operation_id)
            conditions += f" AND ({moment}, id) > (%(moment)s, %(after)s)"
        return self._fill(_FIND, conditions=conditions, moment=moment), values

    def count(self, which: Filter) -> tuple[str, Values]:
        """Return the statement that counts, and its values but for the limit."""
        conditions, values = self._select(which)
        return self._fill(_COUNT, conditions=conditions), values

    def _select(self, which: Filter) -> tuple[str, Values]:
        conditions = ["true"]
        values: Values = {}
        if which.states is not None:
            # Spelled out: of a parameter it is not known which index has all that it may be.
            states = ", ".join(f"'{State(state)}'" for state in sorted(which.states))
            conditions.append(f"state IN ({states})" if states else "false")
        texts = {name: getattr(which, name) for name in ("owner", "worker")}
        texts |= {"application_name": which.application, "coalesce(queue, '')": which.queue}
        for column, text in texts.items():
            if text is not None:
                name = f"text{len(values)}"
                conditions.append(f"{column} = %({name})s")
                values[name] = as_key(text)
        if which.forgotten is not None:
            conditions.append("forgotten" if which.forgotten else "NOT forgotten")
        for name in ("lease", "expires"):
            if (moment := getattr(which, f"{name}_before")) is not None:
                has_ended = which.states is not None and which.states <= TERMINAL
                column = "due" if name == "lease" and has_ended else name
                conditions.append(f"{column} <= %({name})s")
                values[name] = moment
        return " AND ".join(conditions), values


def as_key(text: str) -> str:
    """Write any text so that a column and its index take it; ordinary text stays as it is."""
    key = json.dumps(text)[1:-1]  # no NUL, no lone surrogate, nothing but ASCII
    if len(key) <= LONGEST_KEY:
        return key
    return key[:LONGEST_KEY] + hashlib.sha256(key.encode()).hexdigest()


def from_key(key: str) -> str:
    """Read what `as_key` wrote, unless it was too long."""
    return str(json.loads(f'"{key}"'))


def to_values(operation: Operation) -> Values:
    """Return what the columns of an operation hold."""
    values: Values = {name: getattr(operation, name) for name in _NUMBERS}
    for name in _TEXTS:
        text = getattr(operation, name)
        values[name] = None if text is None else as_key(text)
    values["due"] = operation.lease if operation.is_terminal else None
    return values | {"id": as_key(operation.id), "document": encode(operation)}
