"""Finding operations through the indexes of a Redis store, which may say too much.

An entry that no record calls for is removed by whoever meets it, unless the record is a new one by
then: an operation that was lost may be created again at any moment. In a cluster no step can look
at a record and change an index; there the record is looked at after the removal, and what is right
is put back.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TypeVar

from raincheck.operations.operation import (
    CLAIMED,
    IN_FLIGHT,
    TERMINAL,
    Operation,
    State,
    with_changes,
)
from raincheck.operations.store import LEFTOVER_AGE, Filter
from raincheck.stores.paging import Position
from raincheck.stores.reading import Reader
from raincheck.stores.redis.names import Command, Entry, Names, to_bytes, to_run
from raincheck.stores.redis.scripts import READ_INDEX, REMOVE_ENTRY
from raincheck.stores.redis.server import Server

BATCH = 500  # what is asked of a server at a time
RECONCILED = 60.0  # seconds between looks for what an older raincheck has not put where it belongs

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
        self._reconciled = -math.inf
        self._reader = Reader()

    def candidates(
        self, which: Filter, after: Position | None, count: int
    ) -> Iterator[list[Entry]]:
        """Yield entries in the order that is wanted, from the index that has the fewest."""
        if which.expires_before is not None:
            index = self._names.forgotten if which.forgotten else self._names.expiring
            yield from self.read(index, after, count, which.expires_before)
        elif (before := which.lease_before) is not None and _is_within(which, CLAIMED):
            self.reconcile()
            yield from batches(self._in_order(self._lapsed(before), after), count)
        else:
            yield from self.read(self._index_for(which), after, count)

    def _index_for(self, which: Filter) -> str:
        if _is_within(which, IN_FLIGHT):  # few, whatever the owner
            self.reconcile()
            if which.worker is not None and _is_within(which, {State.CANCELLING}):
                return self._names.cancelling(which.worker)
            is_waiting = _is_within(which, {State.ACCEPTED})
            return self._names.waiting if is_waiting else self._names.active
        if which.lease_before is not None and _is_within(which, TERMINAL):
            return self._names.due
        return self._names.all if which.owner is None else self._names.owned(which.owner)

    def reconcile(self) -> None:
        """Put in its place what an older raincheck has made, or has ended: now and then a look."""
        if time.monotonic() - self._reconciled < RECONCILED:
            return
        self._reconciled = time.monotonic()
        names = self._names
        sizes = [("ZCARD", index) for index in (names.active, names.waiting, names.leases)]
        active, waiting, leases = self._server.commands(sizes)
        if active == waiting + leases:
            return
        for entries in self.read(names.active, None, BATCH):
            found = [entry for o in self.operations(entries) for entry in names.passing(o)]
            self._server.commands([entry.add_all_the_same() for entry in found])

    def count(self, which: Filter) -> int | None:
        """Return how many operations there are, if an index has just these; None: none has."""
        names, owner, application = self._names, which.owner or "", which.application or ""
        owned = Filter(states=IN_FLIGHT, owner=owner, application=application)
        if which == owned:
            return self._size(names.in_flight(owner, application))
        index = {Filter(): names.all, Filter(states=IN_FLIGHT): names.active}.get(which)
        return None if index is None else self._size(index)

    def _size(self, index: str) -> int:
        self.reconcile()
        return int(self._server.command("ZCARD", index))

    def read(
        self, index: str, after: Position | None, count: int, until: float = math.inf
    ) -> Iterator[list[Entry]]:
        """Yield an index in its order; what is removed meanwhile makes it skip nothing.

        Args:
            until: The highest score.
        """
        score, member = (-math.inf, b"") if after is None else (after[0], to_bytes(after[1]))
        while True:
            answer = self._server.command(
                *to_run(READ_INDEX, [index], [repr(score), member, count])
            )
            pairs = zip(answer[::2], answer[1::2], strict=True)
            entries = [Entry(index, float(score), member) for member, score in pairs]
            wanted = [entry for entry in entries if entry.score <= until]
            if wanted:
                yield wanted
            if len(wanted) < count:
                return
            score, member = entries[-1].score, entries[-1].member

    def operations(self, entries: list[Entry]) -> list[Operation]:
        """Return the operations that entries are right about; remove entries that never will be.

        What is missing is added, where it is met.
        """
        found: list[Operation] = []
        wrong: list[Wrong] = []
        right: list[Entry] = []
        for entry, (document, prepared) in zip(entries, self._documents(entries), strict=True):
            if document is None:
                wrong += [(e, None) for e in self._traces(entry)] if prepared is None else []
            elif (operation := self._reader.read(document)) is None:
                continue
            elif entry in self._names.entries(operation):
                found.append(operation)
                if operation.forgotten and entry.key == self._names.expiring:
                    right.append(entry._replace(key=self._names.forgotten))
            elif entry.key == self._names.due and not operation.is_terminal:
                continue  # it is about to end
            elif self._names.is_passing(entry.key):
                right += self._names.passing(operation)
                wrong += [(each, operation.version) for each in self._strays(entry, operation)]
            elif operation.forgotten:
                wrong.append((entry, operation.version))
        self._server.commands([entry.add_all_the_same() for entry in right])
        self.remove(wrong)
        return found

    def _strays(self, entry: Entry, operation: Operation) -> Iterable[Entry]:
        """Return what is to be removed when an entry was met that is wrong: with the others."""
        as_it_ran = with_changes(operation, state=State.CANCELLING, lease=operation.lease or 0.0)
        waiting = with_changes(operation, state=State.ACCEPTED)
        strays = {entry, *self._names.passing(as_it_ran), *self._names.passing(waiting)}
        right = {(each.key, each.member) for each in self._names.passing(operation)}
        return [each for each in strays if (each.key, each.member) not in right]

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
        self._server.commands([entry.add_all_the_same() for entry in right])

    def _documents(self, entries: list[Entry]) -> list[list[bytes | None]]:
        """Return of each entry's operation the document that counts, and the prepared one."""
        keys = [self._names.record(self._names.position(entry)[1]) for entry in entries]
        return self._server.commands([("HMGET", key, "d", "prepared d") for key in keys])

    def _lapsed(self, before: float) -> list[Entry]:
        """Return the leases that end until then: few, as who runs something renews its own."""
        key = self._names.leases
        answer = self._server.command("ZRANGEBYSCORE", key, "-inf", repr(before), "WITHSCORES")
        pairs = zip(answer[::2], answer[1::2], strict=True)
        return [Entry(key, float(score), member) for member, score in pairs]

    def _in_order(self, entries: list[Entry], after: Position | None) -> list[Entry]:
        if after is not None:
            entries = [entry for entry in entries if self._names.position(entry) > after]
        return sorted(entries, key=self._names.position)

    def _traces(self, entry: Entry) -> Iterable[Entry]:
        """Return what an operation that is gone left in indexes.

        Of a young one there may be no record yet: its entries come first.
        """
        created, _ = self._names.position(entry)
        return self._names.traces(entry) if created <= self._clock() - LEFTOVER_AGE else ()


def _is_within(which: Filter, states: AbstractSet[State]) -> bool:
    return which.states is not None and which.states <= states


def batches(items: list[_T], size: int = BATCH) -> Iterator[list[_T]]:
    """Yield the items, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
