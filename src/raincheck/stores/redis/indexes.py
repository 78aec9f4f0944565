"""Finding operations through the indexes of a Redis store, which may say too much.

An entry that no record calls for is removed by whoever meets it, unless the record is a new one by
then: an operation that was lost may be created again at any moment. In a cluster no step can look
at a record and change an index; there the record is looked at after the removal, and what is right
is put back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from raincheck.contracts import LEFTOVER_AGE, Filter
from raincheck.operation import TERMINAL, Operation
from raincheck.stores.paging import Position
from raincheck.stores.reading import Reader
from raincheck.stores.redis.names import Command, Entry, Names, to_bytes, to_run
from raincheck.stores.redis.scripts import READ_INDEX, REMOVE_ENTRY
from raincheck.stores.redis.server import Server

BATCH = 500  # what is asked of a server at a time
MANY = 10_000  # expired operations that are sorted here; were there more, all are walked in order

Wrong = tuple[Entry, int | None]  # and the version of the record seen; None if there was none

_T = TypeVar("_T")


class Indexes:
    """The indexes under one prefix.

    Args:
        server: Where they are.
        names: What they are called.
        clock: Returns seconds since the epoch.
    """

    def __init__(self, server: Server, names: Names, clock: Callable[[], float]) -> None:
        self._server = server
        self._names = names
        self._clock = clock
        self._reader = Reader()

    def candidates(
        self, which: Filter, after: Position | None, count: int
    ) -> Iterator[list[Entry]]:
        """Yield entries in order of creation, from the index that has the fewest."""
        index = self._names.all
        if which.states is not None and not which.states & TERMINAL:  # few, whatever the owner
            index = self._names.active
        elif _is_about_ended(which) and which.lease_before is not None:
            index = self._names.due
        elif which.owner is not None:
            index = self._names.owned(which.owner)
        elif which.expires_before is not None:
            due = self._due(which.expires_before)
            if due is not None:
                yield from batches(self._in_order(due, after), count)
                return
        yield from self.read(index, after, count)

    def read(self, index: str, after: Position | None, count: int) -> Iterator[list[Entry]]:
        """Yield an index in its order; what is removed meanwhile makes it skip nothing."""
        score, member = (-math.inf, b"") if after is None else (after[0], to_bytes(after[1]))
        while True:
            answer = self._server.command(
                *to_run(READ_INDEX, [index], [repr(score), member, count])
            )
            pairs = zip(answer[::2], answer[1::2], strict=True)
            entries = [Entry(index, float(score), member) for member, score in pairs]
            if entries:
                yield entries
            if len(entries) < count:
                return
            score, member = entries[-1].score, entries[-1].member

    def operations(self, entries: list[Entry]) -> list[Operation]:
        """Return the operations that entries are right about; remove entries that never will be."""
        found: list[Operation] = []
        wrong: list[Wrong] = []
        for entry, (document, prepared) in zip(entries, self._documents(entries), strict=True):
            if document is None:
                wrong += [(e, None) for e in self._traces(entry)] if prepared is None else []
            elif (operation := self._reader.read(document)) is None:
                continue
            elif entry in self._names.entries(operation):
                found.append(operation)
            elif operation.forgotten or (operation.is_terminal and entry.key in self._passing):
                wrong.append((entry, operation.version))
        self.remove(wrong)
        return found

    @property
    def _passing(self) -> tuple[str, str]:
        """The indexes in which an ended operation that they don't know will never be again."""
        return self._names.active, self._names.due

    def remove(self, wrong: list[Wrong]) -> None:
        """Remove entries, but for those of a record that has changed since it was looked at."""
        if self._server.settings.cluster:
            self._remove_and_look_again([entry for entry, _ in wrong])
        else:
            self._server.commands([self._to_remove(*each) for each in wrong])

    def _to_remove(self, entry: Entry, version: int | None) -> Command:
        keys = [self._names.record(self._names.position(entry)[1]), entry.key]
        return to_run(REMOVE_ENTRY, keys, ["" if version is None else str(version), entry.member])

    def _remove_and_look_again(self, entries: list[Entry]) -> None:
        self._server.commands([entry.remove() for entry in entries])
        right: list[Entry] = []
        for entry, documents in zip(entries, self._documents(entries), strict=True):
            there = [document for document in documents if document]
            operations = self._reader.read_all(there)
            is_right = any(entry in self._names.entries(o) for o in operations)
            # What can't be read may call for any entry.
            right += [entry] if is_right or len(operations) < len(there) else []
        self._server.commands([entry.add() for entry in right])

    def _documents(self, entries: list[Entry]) -> list[list[bytes | None]]:
        """Return of each entry's operation the document that counts, and the prepared one."""
        keys = [self._names.record(self._names.position(entry)[1]) for entry in entries]
        return self._server.commands([("HMGET", key, "d", "prepared d") for key in keys])

    def _due(self, before: float) -> list[bytes] | None:
        """Return what expires until then; None if that is too much."""
        key, until = self._names.expiring, repr(before)
        if self._server.command("ZCOUNT", key, "-inf", until) > MANY:
            return None
        due: list[bytes] = self._server.command("ZRANGEBYSCORE", key, "-inf", until)
        return due

    def _in_order(self, due: list[bytes], after: Position | None) -> list[Entry]:
        entries = [self._names.expiry(member) for member in due]
        if after is not None:
            entries = [entry for entry in entries if self._names.position(entry) > after]
        return sorted(entries, key=self._names.position)

    def _traces(self, entry: Entry) -> Iterable[Entry]:
        """Return what an operation that is gone left in indexes.

        Of a young one there may be no record yet: its entries come first.
        """
        created, _ = self._names.position(entry)
        return self._names.traces(entry) if created <= self._clock() - LEFTOVER_AGE else ()


def _is_about_ended(which: Filter) -> bool:
    return which.states is not None and which.states <= TERMINAL


def batches(items: list[_T], size: int = BATCH) -> Iterator[list[_T]]:
    """Yield the items, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
