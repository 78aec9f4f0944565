"""What files of version 1 lack, and how operations are found through it.

Not in the schema: its version would have to change, and with it every raincheck that shares the
file. Those of before use a file that has all of this as they always did.
"""

from __future__ import annotations

from sqlite3 import Connection
from typing import Any

from raincheck.errors import StoreError
from raincheck.operations.operation import CLAIMED, IN_FLIGHT, TERMINAL, State
from raincheck.operations.records import decode
from raincheck.operations.store import Filter
from raincheck.stores.paging import parse_cursor


def _within(states: frozenset[State]) -> str:
    """Say it always in the same words, or the indexes are not used."""
    return f"state IN ({', '.join(repr(str(state)) for state in sorted(states))})"


ENDED, _CLAIMED, _IN_FLIGHT = _within(TERMINAL), _within(CLAIMED), _within(IN_FLIGHT)
_BY_WORKER = "operations_claimed"
# What watches look at; what is to be done after the end; what has expired; what is counted;
# what a process runs or has run; values that are no operations.
_STATEMENTS = (
    "CREATE TABLE IF NOT EXISTS changes (n INTEGER PRIMARY KEY, operation_id TEXT NOT NULL)",
    f"""CREATE INDEX IF NOT EXISTS operations_by_due_time ON operations (state, lease)
        WHERE lease IS NOT NULL AND {ENDED}""",
    """CREATE INDEX IF NOT EXISTS operations_by_promise ON operations (forgotten, expires)
        WHERE expires IS NOT NULL""",
    f"""CREATE INDEX IF NOT EXISTS operations_in_flight ON operations
        (owner, application_name, state) WHERE {_IN_FLIGHT}""",
    f"""CREATE INDEX IF NOT EXISTS operations_claimed ON operations (worker, state, lease)
        WHERE {_CLAIMED}""",
    "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value BLOB, written REAL NOT NULL)",
)

WORKERS = f"SELECT DISTINCT worker FROM operations INDEXED BY operations_claimed WHERE {_CLAIMED}"  # noqa: S608

# As bytes: where a disk has spoilt them, they may be no texts.
WITH_REQUEST = """
    SELECT CAST(operations.document AS BLOB), CAST(requests.document AS BLOB)
    FROM operations LEFT JOIN requests ON operation_id = id WHERE id = ?"""
RECALL = "SELECT CAST(value AS BLOB) FROM kept WHERE name = ?"


def add(connection: Connection) -> None:
    """Add what a file lacks."""
    if not _has_names(connection):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not _has_names(connection):  # another process may have been first
                _add_names(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    for statement in _STATEMENTS:
        connection.execute(statement)


def _has_names(connection: Connection) -> bool:
    columns = connection.execute("SELECT name FROM pragma_table_info('operations')").fetchall()
    return ("application_name",) in columns


def _add_names(connection: Connection) -> None:
    """Add the names of applications: only of what is in flight are they ever asked for."""
    connection.execute("ALTER TABLE operations ADD COLUMN application_name TEXT")
    connection.create_function("application_name_of", 1, _application_name_of)
    connection.execute(
        f"UPDATE operations SET application_name = application_name_of(document) WHERE {_IN_FLIGHT}"  # noqa: S608
    )


def _application_name_of(document: str) -> str | None:
    try:
        return decode(document).application_name
    except StoreError:  # nobody can read it
        return None


def keep(connection: Connection, name: str, old: bytes | None, new: bytes, now: float) -> bool:
    """Keep a value by its name in place of another one."""
    kept = connection.execute(RECALL, (name,)).fetchone()
    if (None if kept is None else kept[0]) not in (old, new):
        return False
    connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (name, new, now))
    return True


def to_find(which: Filter, cursor: str | None) -> tuple[str, list[Any]]:
    """Return the query for rows of a page, and its values but for the limit."""
    clause, values = to_select(which)
    if _choose(which)[0] == _BY_WORKER:  # or each row would be read before its lease is looked at
        clause = f"operations WHERE id IN (SELECT id FROM {clause})"  # noqa: S608
    moment = "created" if which.expires_before is None else "expires"
    if cursor is not None:
        clause += f" AND ({moment}, id) > (?, ?)"
        values += parse_cursor(cursor)
    # As bytes: where a disk has spoilt it, it may be no text.
    chosen = f"SELECT {moment}, id, CAST(document AS BLOB) FROM {clause}"  # noqa: S608
    return f"{chosen} ORDER BY {moment}, id LIMIT ?", values


def to_select(which: Filter) -> tuple[str, list[Any]]:
    """Return what follows FROM, without an order, and the values in it."""
    index, conditions = _choose(which)
    values: list[Any] = []

    def require(condition: str, *given: Any) -> None:
        conditions.append(condition)
        values.extend(given)

    if which.states is not None:
        # With a plus an index is passed over.
        state = "state" if index is None else "+state"
        require(f"{state} IN ({', '.join('?' * len(which.states))})", *sorted(which.states))
    if which.owner is not None:
        # An owner may have ended much, but has little to run.
        has_few = index is None and which.states is not None and not which.states & TERMINAL
        require(f"{'+' if has_few else ''}owner = ?", which.owner)
    for name in ("worker", "forgotten"):
        if (value := getattr(which, name)) is not None:
            require(f"{name} = ?", value)
    if which.queue is not None:
        require("coalesce(queue, '') = ?", which.queue)
    if which.application is not None:
        require("application_name = ?", which.application)
    for name in ("lease", "expires"):
        if (value := getattr(which, f"{name}_before")) is not None:
            require(f"{name} <= ?", value)
    chosen = f" INDEXED BY {index}" if index else ""
    return f"operations{chosen} WHERE {' AND '.join(conditions)}", values


def _choose(which: Filter) -> tuple[str | None, list[str]]:
    """Return the index to be used, if the choice is not SQLite's, and what that requires."""
    states = which.states
    if which.expires_before is not None and which.forgotten is not None:
        return "operations_by_promise", ["expires IS NOT NULL"]
    if states is None:
        return None, ["TRUE"]
    if states == TERMINAL:
        return None, [ENDED]
    if states <= CLAIMED and (which.worker is not None or which.lease_before is not None):
        return _BY_WORKER, [_CLAIMED]
    if states == IN_FLIGHT:
        return "operations_in_flight", [_IN_FLIGHT]
    return None, ["TRUE"]
