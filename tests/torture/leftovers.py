"""What a store still holds, asked of its database itself, and what servers left on the disk.

All is told by name, each kind in a list, so that what should not be there can be looked into.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import redis

Left = dict[str, list[str]]

_QUERIES = {
    "operations": "SELECT id FROM {}operations WHERE NOT forgotten",
    "requests": "SELECT operation_id FROM {}requests",
    "chunks": "SELECT operation_id || ' ' || fence || ' ' || n FROM {}chunks",
}
UNCONFIRMED = 3_600_000  # milliseconds that Redis keeps a record whose creation was broken off
SERVERS_OWN = "wgunicorn-"  # by whose time of change gunicorn sees that a worker lives


def in_store(kind: str, place: Any) -> Left:
    """Name what is left besides the memory of forgotten operations.

    Args:
        kind: `sqlite`, `redis` or `postgresql`.
        place: The database file, or the server's URL.
    """
    looks: dict[str, Callable[[Any], Left]]
    looks = {"sqlite": _in_sqlite, "redis": _in_redis, "postgresql": _in_postgresql}
    return looks[kind](place)


def _in_sqlite(path: Path) -> Left:
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path)) as connection:
        left = _in_tables(lambda query: connection.execute(query), "")
    bodies = path.with_name(path.name + "-bodies")
    return left | {"files of bodies": os.listdir(bodies) if bodies.exists() else []}


def _in_postgresql(url: str) -> Left:
    with psycopg.connect(url) as connection:
        return _in_tables(lambda query: connection.execute(query.encode()), "raincheck_")


def _in_tables(ask: Callable[[str], Iterable[Any]], prefix: str) -> Left:
    return {name: [row[0] for row in ask(query.format(prefix))] for name, query in _QUERIES.items()}


def _in_redis(url: str) -> Left:
    left: Left = {"operations": [], "requests": [], "chunks": []}
    with redis.Redis.from_url(url, socket_timeout=60) as client:  # a slow disk holds it up
        for key in client.scan_iter(count=1000):
            name = key.decode()
            if "}:chunk" in name:
                left["chunks"].append(f"{name} for {client.pttl(key)} ms")
            elif name.endswith("}:op"):
                record: Any = client.hgetall(key)
                if b"d" not in record and 0 < client.pttl(key) <= UNCONFIRMED:
                    continue
                document = json.loads(record.get(b"d", b"{}"))
                left["requests"] += [name] if b"r" in record else []
                left["operations"] += [] if document.get("forgotten") else [f"{name} {document}"]
    return left


def records(kind: str, place: Any) -> list[dict[str, Any]]:
    """Return the documents of all operations that the store remembers."""
    readers: dict[str, Callable[[Any], Iterable[Any]]]
    readers = {"sqlite": _sqlite_records, "redis": _redis_records, "postgresql": _pg_records}
    return [json.loads(record) for record in readers[kind](place)]


def _sqlite_records(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT document FROM operations")]


def _pg_records(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT document FROM raincheck_operations")
        return [row[0] for row in rows]


def _redis_records(url: str) -> list[bytes]:
    with redis.Redis.from_url(url, socket_timeout=60) as client:
        records: Any = [client.hget(key, "d") for key in client.scan_iter("*}:op", count=1000)]
        return [record for record in records if record is not None]


def on_disk(directory: Path, pids: Iterable[int]) -> list[str]:
    """Return the temporary files that are there, or that one of the processes holds open."""
    found = [str(path) for path in directory.rglob("*") if path.is_file()]
    for pid in pids:
        with suppress(FileNotFoundError):  # the process has ended
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    found.append(os.readlink(link))
    inside = [name for name in found if name.startswith(f"{directory}{os.sep}")]
    return [name for name in inside if SERVERS_OWN not in name]
