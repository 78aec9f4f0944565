"""A store in this process's memory: for tests, and for a single process that may forget."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from raincheck.engine.per_process import PerProcess
from raincheck.engine.running import name_process
from raincheck.errors import BodyMissing, StoreError, abbreviate
from raincheck.http.messages import Request
from raincheck.operations.operation import (
    CLAIMED,
    IN_FLIGHT,
    REQUEST_FENCE,
    TERMINAL,
    Operation,
    is_overtaken,
)
from raincheck.operations.store import KEPT_AGE, LEFTOVER_AGE, Filter
from raincheck.stores import not_a_store
from raincheck.stores.describing import Description
from raincheck.stores.paging import Position, parse_cursor, position, to_page


@dataclass(slots=True)
class _Shelf:
    """What is kept beside a record."""

    request: Request | None = None
    dedupe: str | None = None
    chunks: dict[tuple[int, int], bytes] = field(default_factory=dict)
    touched: float = 0.0


def from_url(url: str) -> MemoryStore:
    """Return a new store; its URL is `memory:`.

    Raises:
        ConfigurationError: The URL says more than that.
    """
    if url.partition(":")[2].strip("/"):
        raise not_a_store(url)
    return MemoryStore()


class MemoryStore:
    """Keep everything in dictionaries; a forked process begins with a copy of its own.

    Args:
        clock: Returns seconds since the epoch.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # One for each process: a fork may inherit one that nobody will ever release.
        self._lock_of = PerProcess(threading.Lock)
        self._operations: dict[str, Operation] = {}
        self._unfinished: dict[str, Operation] = {}
        self._due: dict[str, Operation] = {}  # that have ended, and have a lease
        # When what is not forgotten, and what is, expires; may say too much.
        self._expiring: dict[bool, list[Position]] = {False: [], True: []}
        self._shelves: dict[str, _Shelf] = {}
        self._unclaimed: set[str] = set()  # shelves without an operation
        self._dedupe: dict[str, str] = {}
        self._kept: dict[str, tuple[bytes, float]] = {}  # and when
        self._name = PerProcess(name_process)
        self._watches = PerProcess(list[SimpleQueue[str]])

    @property
    def _lock(self) -> threading.Lock:
        return self._lock_of.get()

    def create(
        self, operation: Operation, request: Request | None = None, dedupe: str | None = None
    ) -> Operation:
        with self._lock:
            if dedupe is not None and (held := self._held(dedupe)) is not None:
                return held
            stored = self._operations.get(operation.id)
            if stored is not None and stored != operation:
                raise StoreError(f"operation {abbreviate(operation.id)} exists already")
            self._keep(operation)
            shelf = self._shelves.setdefault(operation.id, _Shelf())
            shelf.request, shelf.dedupe = request, dedupe
            if dedupe is not None:
                self._dedupe[dedupe] = operation.id
        self._tell(operation.id)
        return operation

    def holder(self, dedupe: str) -> Operation | None:
        with self._lock:
            return self._held(dedupe)

    def _held(self, dedupe: str) -> Operation | None:
        operation_id = self._dedupe.get(dedupe)
        return None if operation_id is None else self._operations[operation_id]

    def get(self, operation_id: str) -> Operation | None:
        return self._operations.get(operation_id)

    def glance(self, operation_id: str) -> Operation | None:
        return self.get(operation_id)

    def swap(
        self,
        old: Operation,
        new: Operation,
        *,
        drop_request: bool = False,
        drop_dedupe: bool = False,
    ) -> bool:
        with self._lock:
            stored = self._operations.get(old.id)
            if stored is None or (stored.version != old.version and stored != new):
                return False
            if drop_request:
                self._drop_request(self._shelves[old.id])
            if drop_dedupe:
                self._free(self._shelves[old.id])
            self._keep(new)  # last: `get` takes no lock
        self._tell(old.id)
        return True

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
        self.write_chunk(new.id, new.fence, n, data)
        return self.swap(old, new, drop_request=drop_request, drop_dedupe=drop_dedupe)

    def _keep(self, operation: Operation) -> None:
        old = self._operations.get(operation.id)
        self._operations[operation.id] = operation
        self._unclaimed.discard(operation.id)
        for some, belongs in (
            (self._unfinished, not operation.is_terminal),
            (self._due, operation.is_terminal and operation.lease is not None),
        ):
            if belongs:
                some[operation.id] = operation
            else:
                some.pop(operation.id, None)
        before = None if old is None else (old.expires, old.forgotten)
        if operation.expires is not None and (operation.expires, operation.forgotten) != before:
            moment = (operation.expires, operation.id)
            heapq.heappush(self._expiring[operation.forgotten], moment)

    def _drop_request(self, shelf: _Shelf) -> None:
        shelf.request = None
        shelf.chunks = {key: c for key, c in shelf.chunks.items() if key[0] != REQUEST_FENCE}

    def _free(self, shelf: _Shelf) -> None:
        if shelf.dedupe is not None:
            del self._dedupe[shelf.dedupe]
            shelf.dedupe = None  # from now on it may be another one's

    def read_request(self, operation_id: str) -> Request | None:
        shelf = self._shelves.get(operation_id)
        return shelf.request if shelf else None

    def write_chunk(self, operation_id: str, fence: int, n: int, data: bytes) -> None:
        with self._lock:
            if is_overtaken(self._operations.get(operation_id), fence):
                return
            shelf = self._shelves.setdefault(operation_id, _Shelf())
            shelf.chunks[fence, n] = bytes(data)
            shelf.touched = self._clock()
            if operation_id not in self._operations:
                self._unclaimed.add(operation_id)

    def glance_at_chunk(self, operation_id: str, fence: int, n: int) -> bytes | None:
        return next(self.read_chunks(operation_id, fence, n, n + 1))

    def read_chunks(self, operation_id: str, fence: int, start: int, stop: int) -> Iterator[bytes]:
        for n in range(start, stop):
            shelf = self._shelves.get(operation_id)
            chunk = shelf.chunks.get((fence, n)) if shelf is not None else None
            if chunk is None:
                raise BodyMissing(operation_id, fence)
            yield chunk

    def discard(self, operation_id: str) -> None:
        with self._lock:
            shelf = self._shelves.get(operation_id)
            if shelf is not None:
                shelf.request = None
                shelf.chunks = {}

    def find(
        self, which: Filter, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[Operation], str | None]:
        with self._lock:
            after = None if cursor is None else parse_cursor(cursor)
            if which.forgotten is not None and which.expires_before is not None:
                return to_page(self._take_expired(which, limit + 1, after), limit, which)
            operations = [o for o in self._candidates(which) if which.matches(o)]
        operations.sort(key=lambda operation: position(operation, which))
        if after is not None:
            operations = [o for o in operations if position(o, which) > after]
        return to_page(operations, limit, which)

    def _candidates(self, which: Filter) -> Iterable[Operation]:
        if which.states is not None and which.states <= IN_FLIGHT:
            return self._unfinished.values()
        if which.states is not None and which.states <= TERMINAL and which.lease_before is not None:
            return self._due.values()
        return self._operations.values()

    def _take_expired(
        self, which: Filter, limit: int, after: Position | None = None
    ) -> list[Operation]:
        """Return the first that have expired, in order; what is wrong is removed on the way."""
        heap, before = self._expiring[bool(which.forgotten)], which.expires_before or 0.0
        found: dict[str, Operation] = {}
        others: list[Position] = []
        while heap and heap[0][0] <= before and len(found) < limit:
            expires, operation_id = moment = heapq.heappop(heap)
            operation = self._operations.get(operation_id)
            if operation is None or (operation.expires, operation.forgotten) != (
                expires,
                which.forgotten,
            ):
                continue
            if which.matches(operation) and (after is None or moment > after):
                found[operation_id] = operation
            others.append(moment)
        for moment in set(others):
            heapq.heappush(heap, moment)
        return list(found.values())

    def count(self, which: Filter, limit: int) -> int:
        with self._lock:
            return min(limit, sum(which.matches(o) for o in self._candidates(which)))

    def workers(self) -> set[str]:
        with self._lock:
            claimed = [o for o in self._unfinished.values() if o.state in CLAIMED]
        return {operation.worker for operation in claimed if operation.worker is not None}

    def purge(self, before: float, limit: int = 500) -> int:
        with self._lock:
            due = self._take_expired(Filter(forgotten=True, expires_before=before), limit)
            for operation in due:
                del self._operations[operation.id]
                self._unfinished.pop(operation.id, None)
                self._due.pop(operation.id, None)
                self._free(self._shelves.pop(operation.id))
            self._purge_leftovers()
            return len(due)

    def recall(self, name: str) -> bytes | None:
        value, _ = self._kept.get(name, (None, 0.0))
        return value

    def keep(self, name: str, old: bytes | None, new: bytes) -> bool:
        with self._lock:
            if self._kept.get(name, (None,))[0] not in (old, new):
                return False
            self._kept[name] = new, self._clock()
            return True

    def _purge_leftovers(self) -> None:
        now = self._clock()
        for name in [name for name, (_, at) in self._kept.items() if at <= now - KEPT_AGE]:
            del self._kept[name]
        limit = now - LEFTOVER_AGE
        for key in [k for k in self._unclaimed if self._shelves[k].touched <= limit]:
            del self._shelves[key]
            self._unclaimed.discard(key)

    def watch(self, interval: float) -> Generator[str | None, None, None]:
        news: SimpleQueue[str] = SimpleQueue()
        watches = self._watches.get()
        watches.append(news)
        try:
            yield None
            while True:
                try:
                    yield news.get(timeout=interval)
                except Empty:
                    yield None
        finally:
            watches.remove(news)

    def _tell(self, operation_id: str) -> None:
        for news in self._watches.get():
            news.put(operation_id)

    def now(self) -> float:
        return self._clock()

    def close(self) -> None:
        """Keep everything: it would be lost otherwise."""

    def describe(self) -> Description:
        return Description("memory", "this process, which no other one sees into", None)

    def incarnation(self) -> str:
        return self._name.get()

    def lives(self, incarnation: str) -> bool:
        return incarnation == self.incarnation()
