"""The tables of a PostgreSQL store: how they are called, made, and brought up to date."""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

import psycopg

from raincheck.errors import StoreError
from raincheck.stores.postgresql.connections import Connection

# What brings the tables from version n to n + 1; `{…}` are the quoted names of a schema's tables.
# A renewed lease changes no column that an index knows, and finds room on its page: such updates
# touch no index ("heap-only tuples") and leave little to clean up.
STEPS: list[tuple[str, ...]] = [
    (
        "CREATE TABLE {schema_table} (version integer NOT NULL, swept double precision NOT NULL)",
        "INSERT INTO {schema_table} VALUES (0, 0)",
        """CREATE TABLE {operations} (
            id text COLLATE "C" PRIMARY KEY,
            version bigint NOT NULL,
            state text NOT NULL,
            created double precision NOT NULL,
            owner text, queue text, worker text,
            lease double precision,
            expires double precision,
            forgotten boolean NOT NULL,
            dedupe text,
            document text NOT NULL
        ) WITH (fillfactor = 60)""",
        """CREATE INDEX raincheck_operations_unfinished ON {operations} (created, id)
            WHERE state IN ('accepted', 'running', 'cancelling')""",
        """CREATE INDEX raincheck_operations_expires ON {operations} (expires)
            WHERE expires IS NOT NULL""",
        """CREATE INDEX raincheck_operations_owner ON {operations} (owner, created, id)
            WHERE owner IS NOT NULL""",
        """CREATE UNIQUE INDEX raincheck_operations_dedupe ON {operations} (dedupe)
            WHERE dedupe IS NOT NULL""",
        """CREATE TABLE {requests} (
            operation_id text COLLATE "C" PRIMARY KEY,
            document text NOT NULL
        )""",
        """CREATE TABLE {chunks} (
            operation_id text COLLATE "C",
            fence bigint,
            n bigint,
            data bytea NOT NULL,
            written double precision NOT NULL,
            PRIMARY KEY (operation_id, fence, n)
        )""",
        # Bodies are compressed already, or not worth the time.
        "ALTER TABLE {chunks} ALTER COLUMN data SET STORAGE EXTERNAL",
    ),
    (
        # The lease of what has ended: an index on `lease` would know what a renewal changes.
        "ALTER TABLE {operations} ADD COLUMN due double precision",
        """CREATE INDEX raincheck_operations_due ON {operations} (due)
            WHERE due IS NOT NULL""",
    ),
    (
        # Of those that are in flight at this moment, and begun by an older raincheck, nobody knows
        # the application's name: they count for nobody.
        "ALTER TABLE {operations} ADD COLUMN application_name text",
        """CREATE INDEX raincheck_operations_in_flight ON {operations} (owner, application_name)
            WHERE state IN ('accepted', 'cancelling', 'running')""",
        """CREATE INDEX raincheck_operations_cancelling ON {operations} (worker)
            WHERE state = 'cancelling'""",
        """CREATE INDEX raincheck_operations_promised ON {operations} (expires, id)
            WHERE NOT forgotten AND expires IS NOT NULL""",
        "DROP INDEX IF EXISTS {operations}_expires",
        """CREATE INDEX raincheck_operations_forgotten ON {operations} (expires) WHERE forgotten""",
    ),
    (
        """CREATE TABLE {kept} (
            name text COLLATE "C" PRIMARY KEY,
            value bytea NOT NULL,
            written double precision NOT NULL
        )""",
    ),
]
_LOCK = 0x7261696E  # "rain": one process at a time makes or changes tables, in any schema
# Not to_regclass: after a wait for the lock it may still not see what another process has made.
_WHERE = """
    SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = 'raincheck_schema' AND nspname = ANY(
        CASE WHEN %(name)s::text IS NULL THEN current_schemas(false) ELSE ARRAY[%(name)s::name] END)
    ORDER BY array_position(current_schemas(false), nspname) LIMIT 1"""


class Tables(NamedTuple):
    """The names of the tables, quoted for a statement with parameters."""

    schema_table: str
    operations: str
    requests: str
    chunks: str
    kept: str


class Prepared(NamedTuple):
    """What was found and done: the version of the tables before (0: none) and now, and where."""

    before: int
    now: int
    schema: str


class Schema:
    """The schema that a store's tables are in.

    Args:
        name: None for the one that the connection finds or makes tables in.
    """

    def __init__(self, name: str | None) -> None:
        self._name = name
        prefix = "" if name is None else f"{quote(name)}."
        kinds = ("schema", "operations", "requests", "chunks", "kept")
        self.tables = Tables(*(f"{prefix}raincheck_{kind}" for kind in kinds))

    def prepare(self, connection: Connection) -> Prepared:
        """Make sure that the tables are there, of the version that this raincheck knows.

        Raises:
            StoreError: They are of a newer version, or this role may not make or change them.
        """
        found = self.look(connection)
        if found.now == len(STEPS):
            return found
        try:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                found = self.look(connection)  # another process may have been first
                self._advance(connection, found.now)
                return self.look(connection)._replace(before=found.now)
        except psycopg.errors.InsufficientPrivilege as error:
            raise self._forbidden(connection, found.now, error) from error

    def look(self, connection: Connection) -> Prepared:
        """Say which tables are there, and make none.

        Raises:
            StoreError: They are of a newer version.
        """
        found = connection.execute(_WHERE, {"name": self._name}).fetchone()
        if found is None:
            return Prepared(0, 0, self._name or "")
        rows = connection.execute(f"SELECT version FROM {self.tables.schema_table}", ()).fetchall()  # noqa: S608 - quoted
        version, schema = rows[0][0], found[0]
        if version > len(STEPS):
            raise StoreError(
                f"the tables in schema {schema} are of version {version}, and this raincheck "
                f"knows up to {len(STEPS)}: upgrade raincheck, or choose another schema"
            )
        return Prepared(version, version, schema)

    def _advance(self, connection: Connection, version: int) -> None:
        if version == len(STEPS):
            return
        if self._name is not None:
            query = "SELECT 1 FROM pg_namespace WHERE nspname = %s"
            if connection.execute(query, (self._name,)).fetchone() is None:
                connection.execute(f"CREATE SCHEMA {quote(self._name)}", ())
        statements = ";".join(chain.from_iterable(STEPS[version:]))
        # All of them in one round trip, as the server may be slow.
        connection.execute(statements.format(**self.tables._asdict()), ())
        update = f"UPDATE {self.tables.schema_table} SET version = %s"  # noqa: S608 - quoted
        connection.execute(update, (len(STEPS),))

    def _forbidden(self, connection: Connection, version: int, error: psycopg.Error) -> StoreError:
        action = "change" if version else "make"
        where = f"schema {self._name}" if self._name else "the schema of its search_path"
        return StoreError(
            f"the role {connection.info.user} may not {action} raincheck's tables in {where} of "
            f"the database {connection.info.dbname} ({error.diag.message_primary}): run "
            "`raincheck store init URL` with the URL of a role that has the privilege CREATE "
            "there, and grant this one USAGE, SELECT, INSERT, UPDATE and DELETE"
        )


def quote(name: str) -> str:
    """Quote an identifier for a statement with parameters, in which each % stands doubled."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'
