"""Most of a store, for those who write a simple one: what is missing is a mapping with a lock.

Simple rather than fast: `find` and `purge` read all records, and a watch looks every 20 ms.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, MutableMapping
from contextlib import AbstractContextManager
from functools import partial
from hashlib import sha256

from raincheck.errors import BodyMissing, StoreError, abbreviate
from raincheck.http.messages import Request
from raincheck.operations.operation import REQUEST_FENCE, Operation
from raincheck.operations.records import decode, decode_request, encode, encode_request
from raincheck.operations.store import KEPT_AGE, LEFTOVER_AGE, Filter
from raincheck.stores.paging import parse_cursor, position, to_page
from raincheck.stores.reading import Reader

GLANCE = 0.02  # seconds between two looks of a watch
REMEMBERED = 500  # changes that a watch may have slept through

Mapping = MutableMapping[str, bytes]


class MappingStore(ABC):
    """Keep operations in a mapping of strings to bytes that its users take turns to use.

    Args:
        clock: Returns seconds since the epoch; all users of a store must agree on it.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._reader = Reader()

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Mapping]:
        """Give the mapping to this thread, and to no other one of any process meanwhile.

        Each value is written whole or not at all, in this order: a process that is killed leaves
        what it has written so far. Keys are good as names of files: they have at most 120
        characters, which are `a-z`, `0-9`, `.`, `-`, and at least one is a dot.

        Raises:
            StoreUnavailable: While entering or within, if that can't be done now.
        """

    def now(self) -> float:
        return self._clock()

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Release what this process has opened."""

    def create(
        self, operation: Operation, request: Request | None = None, dedupe: str | None = None
    ) -> Operation:
        with self.transaction() as kept:
            if dedupe is not None and (held := _read_holder(kept, dedupe)) is not None:
                return held
            stored = _read_record(kept, operation.id)
            if stored is not None and stored != operation:
                raise StoreError(f"operation {abbreviate(operation.id)} exists already")
            if dedupe is not None:
                kept[_key("dedupe", dedupe)] = _bytes(operation.id)
            kept.pop(_key("request", operation.id), None)  # of a process that was killed here
            if request is not None:
                self._touch(kept, operation.id)
                kept[_key("request", operation.id)] = encode_request(request).encode()
            self._write_record(kept, operation)  # last: without it, the rest means nothing
            return operation

    def holder(self, dedupe: str) -> Operation | None:
        with self.transaction() as kept:
            return _read_holder(kept, dedupe)

    def get(self, operation_id: str) -> Operation | None:
        with self.transaction() as kept:
            return _read_record(kept, operation_id)

    def swap(
        self,
        old: Operation,
        new: Operation,
        *,
        drop_request: bool = False,
        drop_dedupe: bool = False,
    ) -> bool:
        """Swap, then drop: a process that is killed in between leaves what it was to drop.

        A repeated `swap`, `discard` or `purge` deletes that.
        """
        with self.transaction() as kept:
            stored = _read_record(kept, old.id)
            if stored is None or (stored.version != old.version and stored != new):
                return False
            self._write_record(kept, new)
            if drop_request:
                kept.pop(_key("request", old.id), None)
                _delete_body(kept, old.id, REQUEST_FENCE)
            if drop_dedupe:
                _free(kept, old.id)
            return True

    def read_request(self, operation_id: str) -> Request | None:
        with self.transaction() as kept:
            text = kept.get(_key("request", operation_id))
        return decode_request(text) if text is not None else None

    def write_chunk(self, operation_id: str, fence: int, n: int, data: bytes) -> None:
        with self.transaction() as kept:
            record = kept.get(_key("record", operation_id))
            if self._reader.is_overtaken(record, fence):
                return
            self._touch(kept, operation_id)
            kept[_key("chunk", operation_id, fence, n)] = data

    def read_chunks(self, operation_id: str, fence: int, start: int, stop: int) -> Iterator[bytes]:
        for n in range(start, stop):
            with self.transaction() as kept:
                data = kept.get(_key("chunk", operation_id, fence, n))
            if data is None:
                raise BodyMissing(operation_id, fence)
            yield data

    def discard(self, operation_id: str) -> None:
        with self.transaction() as kept:
            _delete(kept, {_digest(operation_id)}, ("request", "chunk"))

    def find(
        self, which: Filter, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[Operation], str | None]:
        place = partial(position, which=which)
        with self.transaction() as kept:
            found = sorted(filter(which.matches, self._read_all(kept)), key=place)
        if cursor is not None:
            found = [operation for operation in found if place(operation) > parse_cursor(cursor)]
        return to_page(found, limit, which)

    def purge(self, before: float, limit: int = 500) -> int:
        due = Filter(forgotten=True, expires_before=before)
        with self.transaction() as kept:
            purged = [o.id for o in self._read_all(kept) if due.matches(o)][:limit]
            _delete(kept, set(map(_digest, purged)), ("record", "request", "chunk", "touched"))
            leftovers = _leftovers(kept, self.now() - LEFTOVER_AGE)
            _delete(kept, leftovers, ("request", "chunk", "touched"))
            for key in [key for key in kept if key.startswith("dedupe.")]:
                if _key("record", _text(kept[key])) not in kept:
                    del kept[key]
            _delete_old(kept, self.now() - KEPT_AGE)
            return len(purged)

    def recall(self, name: str) -> bytes | None:
        with self.transaction() as kept:
            return _value(kept.get(_key("kept", name)))

    def keep(self, name: str, old: bytes | None, new: bytes) -> bool:
        key = _key("kept", name)
        with self.transaction() as kept:
            if _value(kept.get(key)) not in (old, new):
                return False
            kept[key] = b"%r\n%s" % (self.now(), new)
            return True

    def watch(self, interval: float) -> Generator[str | None, None, None]:
        seen, _ = self._changes()
        yield None
        while True:
            deadline = time.monotonic() + interval
            while (changes := self._changes())[0] == seen and time.monotonic() < deadline:
                time.sleep(min(GLANCE, interval))
            count, ids = changes
            yield from ids[seen - count :] if count != seen else [None]
            seen = count

    def _changes(self) -> tuple[int, list[str]]:
        """Return how often an operation was changed, and the ids of the last ones."""
        with self.transaction() as kept:
            count, ids = json.loads(kept.get("changes.json", b"[0, []]"))
        return count, ids

    def _read_all(self, kept: Mapping) -> list[Operation]:
        return self._reader.read_all(kept[key] for key in list(kept) if key.startswith("record."))

    def _write_record(self, kept: Mapping, operation: Operation) -> None:
        kept[_key("record", operation.id)] = encode(operation).encode()
        count, ids = json.loads(kept.get("changes.json", b"[0, []]"))
        ids = [*ids, operation.id][-REMEMBERED:]
        kept["changes.json"] = json.dumps([count + 1, ids]).encode()

    def _touch(self, kept: Mapping, operation_id: str) -> None:
        """Note when something was written that no record refers to yet."""
        if _key("record", operation_id) not in kept:
            kept[_key("touched", operation_id)] = repr(self.now()).encode()


def _value(dated: bytes | None) -> bytes | None:
    """Return what was kept, without the time when it was."""
    return None if dated is None else dated.partition(b"\n")[2]


def _delete_old(kept: Mapping, before: float) -> None:
    """Delete what was kept last until then."""
    for key in [key for key in kept if key.startswith("kept.")]:
        if _written(kept[key]) <= before:
            del kept[key]


def _written(dated: bytes) -> float:
    """Return when a value was kept; one that is spoilt long ago: it must not stop a purge."""
    try:
        return float(dated.partition(b"\n")[0])
    except ValueError:
        return 0.0


def _key(kind: str, name: str, *numbers: int) -> str:
    return ".".join((kind, _digest(name), *map(str, numbers)))


def _digest(name: str) -> str:
    return sha256(_bytes(name)).hexdigest()


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def _read_record(kept: Mapping, operation_id: str) -> Operation | None:
    text = kept.get(_key("record", operation_id))
    return decode(text) if text is not None else None


def _read_holder(kept: Mapping, dedupe: str) -> Operation | None:
    """Return who holds a dedupe key; one that leads to no record is held by nobody."""
    operation_id = kept.get(_key("dedupe", dedupe))
    return _read_record(kept, _text(operation_id)) if operation_id is not None else None


def _delete(kept: Mapping, digests: set[str], kinds: tuple[str, ...]) -> None:
    for key in list(kept):
        kind, digest, *_ = key.split(".")
        if digest in digests and kind in kinds:
            del kept[key]


def _delete_body(kept: Mapping, operation_id: str, fence: int) -> None:
    prefix = _key("chunk", operation_id, fence) + "."
    for key in [key for key in kept if key.startswith(prefix)]:
        del kept[key]


def _free(kept: Mapping, operation_id: str) -> None:
    """Delete the dedupe key that an operation holds, if it holds one."""
    holder = _bytes(operation_id)
    for key in [key for key in kept if key.startswith("dedupe.")]:
        if kept[key] == holder:
            del kept[key]


def _leftovers(kept: Mapping, before: float) -> set[str]:
    """Name what has had no record for long; a note about what has one is not needed any more."""
    found: set[str] = set()
    for key in [key for key in kept if key.startswith("touched.")]:
        digest = key.partition(".")[2]
        if f"record.{digest}" in kept:
            del kept[key]
        elif float(kept[key]) <= before:
            found.add(digest)
    return found
