"""How keys are named and which indexes an operation is in. Pure.

All keys of one operation share a hash tag, `{prefix:id}`, and so lie on one node of a cluster.
The indexes lie elsewhere. They can't be changed in one step with a record, so an entry is added
before the record that calls for it and is removed after: an index may say too much, never too
little, and whoever reads one looks at the records.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from raincheck.operations.operation import CLAIMED, Operation, State
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


@lru_cache(256)  # an operation's id is a part of ten keys within one change
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
        self.waiting = f"{prefix}:waiting"
        self.leases = f"{prefix}:leases"
        self.due = f"{prefix}:due"
        self.expiring = f"{prefix}:expiring"
        self.forgotten = f"{prefix}:forgotten"
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

    def kept(self, name: str) -> str:
        """The value that is kept by a name."""
        return f"{self._prefix}:kept={quoted(name)}"

    def owned(self, owner: str) -> str:
        """The index of an owner's operations."""
        return f"{self._prefix}:owner={quoted(owner)}"

    def in_flight(self, owner: str, application: str) -> str:
        """The index of an owner's operations of one application that have not ended."""
        return f"{self._prefix}:flight={quoted(application)}={quoted(owner)}"

    def cancelling(self, worker: str) -> str:
        """The index of what a worker is to stop."""
        return f"{self._prefix}:cancelling={quoted(worker)}"

    def passing(self, operation: Operation) -> frozenset[Entry]:
        """Return what the indexes must hold of it until it has ended, and nobody is to be told.

        Those of `active` are in `waiting` or `leases`, too: an older raincheck knows only `active`.
        """
        created, member = float(operation.created), to_bytes(operation.id)
        if operation.is_terminal:
            due = Entry(self.due, created, member)
            return frozenset() if operation.lease is None else frozenset({due})
        entries = [Entry(self.active, created, member)]
        if operation.state in CLAIMED:
            lease = math.inf if operation.lease is None else operation.lease
            entries.append(Entry(self.leases, lease, b"%r %s" % (created, member)))
        else:
            entries.append(Entry(self.waiting, created, member))
        if operation.state is State.CANCELLING and operation.worker is not None:
            entries.append(Entry(self.cancelling(operation.worker), created, member))
        if operation.owner is not None and operation.application_name is not None:
            key = self.in_flight(operation.owner, operation.application_name)
            entries.append(Entry(key, created, member))
        return frozenset(entries)

    def is_passing(self, key: str) -> bool:
        """Tell whether an index is one of those."""
        some = (self.active, self.due, self.waiting, self.leases)
        return key in some or key.startswith((self.cancelling(""), f"{self._prefix}:flight="))

    def entries(self, operation: Operation) -> frozenset[Entry]:
        """Return what the indexes must hold for an operation as it is now."""
        created, member = float(operation.created), to_bytes(operation.id)
        entries = [Entry(self.all, created, member), *self.passing(operation)]
        if operation.owner is not None:
            entries.append(Entry(self.owned(operation.owner), created, member))
        if operation.expires is not None:
            expires = float(operation.expires)
            # One for each expiry: were there one entry with the last score, then of two processes
            # that change an expiry at once the one that loses could leave its score behind.
            dated = b"%r %r %s" % (created, expires, member)
            entries.append(Entry(self.expiring, expires, dated))
            if operation.forgotten:
                entries.append(Entry(self.forgotten, expires, dated))
        return frozenset(entries)

    def position(self, entry: Entry) -> Position:
        """Return the place of an entry's operation in the order of creation."""
        if entry.key == self.leases:
            created, member = entry.member.split(b" ", 1)
        elif entry.key in (self.expiring, self.forgotten):
            created, _, member = entry.member.split(b" ", 2)
        else:
            return entry.score, to_text(entry.member)
        return float(created), to_text(member)

    def expiry_cursor(self, operation: Operation) -> str:
        """Return the place of an operation in the order of expiry: a score and a member."""
        members = [e.member for e in self.entries(operation) if e.key == self.expiring]
        return f"{operation.expires!r} {to_text(members[0])}"

    def traces(self, entry: Entry) -> Iterable[Entry]:
        """Return what is known to be in indexes of an operation that is gone."""
        created, operation_id = self.position(entry)
        member = to_bytes(operation_id)
        dated = (
            [self.expiring, self.forgotten] if entry.key in (self.expiring, self.forgotten) else []
        )
        return {
            entry,
            *(entry._replace(key=key) for key in dated),
            Entry(self.all, created, member),
            Entry(self.active, created, member),
            Entry(self.due, created, member),
            Entry(self.waiting, created, member),
            Entry(self.leases, 0.0, b"%r %s" % (created, member)),
        }


def to_ms(moment: float) -> str:
    return str(int(moment * 1000))
