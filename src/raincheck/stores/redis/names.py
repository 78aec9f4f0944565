"""How keys are named and which indexes an operation is in. Pure.

All keys of one operation share a hash tag, `{prefix:id}`, and so lie on one node of a cluster.
The indexes lie elsewhere. They can't be changed in one step with a record, so an entry is added
before the record that calls for it and is removed after: an index may say too much, never too
little, and whoever reads one looks at the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from raincheck.operation import Operation
from raincheck.stores.paging import Position
from raincheck.stores.redis.scripts import ADD_ALL_THE_SAME

Command = tuple[str | bytes | float, ...]


def to_run(script: str, keys: Sequence[str], args: Sequence[str | bytes | float]) -> Command:
    """Return the command that runs a script."""
    return ("EVAL", script, len(keys), *keys, *args)


class Entry(NamedTuple):
    """A member of an index, which is a sorted set."""

    key: str
    score: float
    member: bytes

    def add(self) -> Command:
        """Return the command that adds it."""
        return "ZADD", self.key, repr(float(self.score)), self.member

    def add_all_the_same(self) -> Command:
        """Return the command that adds it on a server that is out of memory, too."""
        return to_run(ADD_ALL_THE_SAME, [self.key], [repr(float(self.score)), self.member])

    def remove(self) -> Command:
        """Return the command that removes it."""
        return "ZREM", self.key, self.member


def to_bytes(text: str) -> bytes:
    """Write any text, lone surrogates included, so that bytes sort as the text does."""
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    """Read what `to_bytes` wrote."""
    return data.decode("utf-8", "surrogatepass")


def quoted(text: str) -> str:
    """Write any text so that it can be a part of a key; no other text looks the same."""
    return quote(to_bytes(text), safe="")


def unquoted(data: bytes) -> str:
    """Read what `quoted` wrote."""
    return to_text(unquote_to_bytes(data))


class Names:
    """The keys under one prefix.

    An owner or a dedupe key follows an equals sign, which no prefix has: `a:owner` as a prefix
    must not lead to the keys of `a`.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.all = f"{prefix}:all"
        self.active = f"{prefix}:active"
        self.due = f"{prefix}:due"
        self.expiring = f"{prefix}:expiring"
        self.bodies = f"{prefix}:bodies"
        self.clock = f"{prefix}:clock"
        self.changes = f"{prefix}:changes"

    def record(self, operation_id: str) -> str:
        """The hash of an operation: what it has is said in `scripts`."""
        return f"{{{self._prefix}:{quoted(operation_id)}}}:op"

    def chunk_list(self, operation_id: str) -> str:
        """The set that names all chunks of an operation."""
        return f"{{{self._prefix}:{quoted(operation_id)}}}:chunks"

    def chunk(self, operation_id: str, member: str) -> str:
        """The chunk that a member of the list names."""
        return f"{{{self._prefix}:{quoted(operation_id)}}}:chunk:{member}"

    def dedupe(self, dedupe: str) -> str:
        """Where the id of the operation is that holds a dedupe key, if its record says so, too."""
        return f"{self._prefix}:dedupe={quoted(dedupe)}"

    def owned(self, owner: str) -> str:
        """The index of an owner's operations."""
        return f"{self._prefix}:owner={quoted(owner)}"

    def entries(self, operation: Operation) -> frozenset[Entry]:
        """Return what the indexes must hold for an operation as it is now."""
        created, member = float(operation.created), to_bytes(operation.id)
        entries = [Entry(self.all, created, member)]
        if not operation.is_terminal:
            entries.append(Entry(self.active, created, member))
        elif operation.lease is not None:
            entries.append(Entry(self.due, created, member))
        if operation.owner is not None:
            entries.append(Entry(self.owned(operation.owner), created, member))
        if operation.expires is not None:
            expires = float(operation.expires)
            # One for each expiry: were there one entry with the last score, then of two processes
            # that change an expiry at once the one that loses could leave its score behind.
            dated = b"%r %r %s" % (created, expires, member)
            entries.append(Entry(self.expiring, expires, dated))
        return frozenset(entries)

    def expiry(self, member: bytes) -> Entry:
        """Return the entry that a member of the index `expiring` is."""
        return Entry(self.expiring, float(member.split(b" ", 2)[1]), member)

    def position(self, entry: Entry) -> Position:
        """Return the place of an entry's operation in the order of creation."""
        if entry.key != self.expiring:
            return entry.score, to_text(entry.member)
        created, _, member = entry.member.split(b" ", 2)
        return float(created), to_text(member)

    def traces(self, entry: Entry) -> Iterable[Entry]:
        """Return what is known to be in indexes of an operation that is gone."""
        created, operation_id = self.position(entry)
        member = to_bytes(operation_id)
        return {
            entry,
            Entry(self.all, created, member),
            Entry(self.active, created, member),
            Entry(self.due, created, member),
        }
