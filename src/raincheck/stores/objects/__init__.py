"""Large chunks as objects: in S3, Google Cloud or Azure Storage, or in a directory.

The store itself keeps a pointer in place of such a chunk. An object is written before its pointer
and never changed, so whoever sees a pointer sees all of its chunk, and a chunk that is written
again is another object. Everything else is the store's own.

Objects lie at `<namespace>/<operation id>/<fence>-<n>-<random>`. The namespace is drawn when the
first object is written and kept in the store, so that stores may share a bucket and none takes the
objects of another for leftovers.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from urllib.parse import quote, unquote

from raincheck.engine.per_process import PerProcess
from raincheck.engine.repository import Repository
from raincheck.errors import BodyMissing, StoreError, StoreUnavailable, abbreviate
from raincheck.http.messages import Request
from raincheck.operations.operation import REQUEST_FENCE, Operation, State, is_overtaken
from raincheck.operations.store import (
    LEFTOVER_AGE,
    Concluding,
    Filter,
    Keeping,
    Liveness,
    Store,
)
from raincheck.stores import OBJECTS
from raincheck.stores.memory import MemoryStore
from raincheck.stores.objects.records import Records
from raincheck.stores.objects.storage import Entry, Storage, is_usable, open_storage

logger = logging.getLogger("raincheck")

CHUNK_SIZE = 4 * 1024 * 1024  # bytes: a GiB is 256 objects
OBJECT_SIZE = 256 * 1024  # bytes; what is smaller stays in the store
SWEEP_STEP = 2.0  # seconds of sweeping in one purge: the heartbeat has other duties
NAMESPACE = OBJECTS  # the id of the record that holds it

_MAGIC = b"\0raincheck object\0"
_POINTER = re.compile(_MAGIC + rb"([0-9a-f]{32}) ([0-9a-f]{32}) (\d+)")
_KEY = re.compile(r"[0-9a-f]{32}/([^/]+)/(\d+)-\d+-[0-9a-f]{32}")
_UNFINISHED = re.compile(r"#\d+")  # what obstore appends while it writes a file


def with_bodies_at(store: Store, url: str) -> Store:
    """Return a store that keeps large chunks as objects, and all else in `store`.

    Credentials and settings come from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`). Objects of
    a store that is gone stay: let the bucket delete what is older than any retention.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`,
            `file:///directory`, or `memory:///` for tests.

    Raises:
        ConfigurationError: The URL names no object storage.
    """
    storage = open_storage(url)
    if isinstance(store, Liveness):
        return LivingObjectBodies(store, storage, store)
    return ObjectBodies(store, storage)


class ObjectBodies(Records):
    """A store whose large chunks are objects.

    Args:
        store: Keeps everything else.
        storage: Keeps the objects.
    """

    chunk_size = CHUNK_SIZE

    def __init__(self, store: Store, storage: Storage) -> None:
        super().__init__(store)
        self._store = store
        self._storage = storage
        self._keeping: Keeping = store if isinstance(store, Keeping) else MemoryStore()
        self._concluding = store if isinstance(store, Concluding) else None
        self._sweep_of = PerProcess(_Sweep)
        self._warned: set[int] = set()  # processes

    # --- chunks --------------------------------------------------------------------------------

    def write_chunk(self, operation_id: str, fence: int, n: int, data: bytes) -> None:
        if data.startswith(_MAGIC) or (len(data) >= OBJECT_SIZE and self._can_use_objects()):
            self._write_object(operation_id, fence, n, data)
        else:
            self._store.write_chunk(operation_id, fence, n, data)

    def _write_object(self, operation_id: str, fence: int, n: int, data: bytes) -> None:
        """Write an object and its pointer; take it back if the writer was overtaken meanwhile."""
        key, pointer = self._put(operation_id, fence, n, data)
        self._store.write_chunk(operation_id, fence, n, pointer)
        if fence != REQUEST_FENCE and self._is_overtaken(operation_id, fence):
            self._storage.delete([key])

    def _is_overtaken(self, operation_id: str, fence: int) -> bool:
        try:
            record = self._store.get(operation_id)
        except StoreUnavailable:
            raise
        except StoreError:  # a newer raincheck's: who understands it sweeps, too
            return False
        return is_overtaken(record, fence)

    def _can_use_objects(self) -> bool:
        if is_usable():
            return True
        if os.getpid() not in self._warned:
            self._warned.add(os.getpid())
            logger.warning(
                "this process was forked after its parent had used objects, so it keeps "
                "large chunks in the store itself; fork before the first use"
            )
        return False

    def _put(self, operation_id: str, fence: int, n: int, data: bytes) -> tuple[str, bytes]:
        """Write an object and return its key, and the pointer to it."""
        namespace, name = self._namespace() or self._found(), secrets.token_hex(16)
        key = _key(namespace, operation_id, fence, n, name)
        self._storage.put(key, data)
        return key, _MAGIC + f"{namespace} {name} {len(data)}".encode()

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
        is_large = len(data) >= OBJECT_SIZE or data.startswith(_MAGIC)
        if self._concluding is None or drop_request or is_large:
            self.write_chunk(new.id, new.fence, n, data)
            return self.swap(old, new, drop_request=drop_request, drop_dedupe=drop_dedupe)
        return self._concluding.conclude(old, new, n, data, drop_dedupe=drop_dedupe)

    def glance_at_chunk(self, operation_id: str, fence: int, n: int) -> bytes | None:
        if self._glancing is None:
            return None
        data = self._glancing.glance_at_chunk(operation_id, fence, n)
        return None if data is None or data.startswith(_MAGIC) else data

    def read_chunks(self, operation_id: str, fence: int, start: int, stop: int) -> Iterator[bytes]:
        chunks = self._store.read_chunks(operation_id, fence, start, stop)
        for n, data in enumerate(chunks, start):
            # What was written before there were objects may begin with the same bytes.
            pointer = _POINTER.fullmatch(data) if data.startswith(_MAGIC) else None
            yield data if pointer is None else self._get(operation_id, fence, n, pointer)

    def _get(self, operation_id: str, fence: int, n: int, pointer: re.Match[bytes]) -> bytes:
        namespace, name, size = (part.decode() for part in pointer.groups())
        data = self._storage.get(_key(namespace, operation_id, fence, n, name))
        if data is None or len(data) != int(size):
            raise BodyMissing(operation_id, fence)
        return data

    # --- the namespace -------------------------------------------------------------------------

    def _namespace(self) -> str | None:
        record = self._store.get(NAMESPACE)
        return record.owner if record else None

    def _found(self) -> str:
        """Choose a namespace; the first of several processes that do so wins."""
        record = Operation(
            id=NAMESPACE,
            state=State.SUCCEEDED,
            created=0.0,
            updated=0.0,
            retention=0.0,
            method="",
            route="",
            owner=secrets.token_hex(16),  # an owner that nobody is: nobody can read or forget it
        )
        return self._store.create(record, dedupe=NAMESPACE).owner or ""

    # --- deleting ------------------------------------------------------------------------------

    def swap(
        self,
        old: Operation,
        new: Operation,
        *,
        drop_request: bool = False,
        drop_dedupe: bool = False,
    ) -> bool:
        """Swap, then delete the objects of what is dropped.

        A process that is killed in between leaves objects that nothing leads to any more; they are
        deleted by a repeated `swap`, by `discard`, or by the sweep of a purge.
        """
        may_have_objects = drop_request and self._may_have_objects(old.id)
        swapped = self._store.swap(old, new, drop_request=drop_request, drop_dedupe=drop_dedupe)
        if swapped and may_have_objects:
            self._delete_objects(old.id, REQUEST_FENCE)
        return swapped

    def _may_have_objects(self, operation_id: str) -> bool:
        """Tell whether a request's body may; where it is gone already, what was left may."""
        request = self._request(operation_id)
        return request is None or request.length >= OBJECT_SIZE

    def _request(self, operation_id: str) -> Request | None:
        """Return a request; one that can't be read here may have a body of any size."""
        try:
            return self._store.read_request(operation_id)
        except StoreUnavailable:
            raise
        except StoreError:
            return Request("", "", length=OBJECT_SIZE)

    def discard(self, operation_id: str) -> None:
        """Delete the pointers, then the objects; those that can't be deleted are swept later."""
        self._store.discard(operation_id)
        self._delete_objects(operation_id)

    def _delete_objects(self, operation_id: str, fence: int | None = None) -> None:
        """Delete the objects of one fence, or of all."""
        try:
            namespace = self._namespace()
            if namespace is None or not is_usable():
                return
            for page in self._storage.list(f"{namespace}/{_quoted(operation_id)}"):
                found = [match for e in page if (match := _KEY.fullmatch(e.key)) is not None]
                keys = [match[0] for match in found if fence in (None, int(match[2]))]
                self._storage.delete(keys)
        except StoreError as error:
            shown = abbreviate(operation_id)
            logger.warning("the objects of operation %s are left for later: %s", shown, error)

    def purge(self, before: float, limit: int = 500) -> int:
        deleted = self._store.purge(before, limit)
        if is_usable():
            self._sweep()
        return deleted

    def _sweep(self) -> None:
        """Go on with a sweep for a while, or begin one if the last was begun an hour ago."""
        sweep = self._sweep_of.get()
        if not sweep.lock.acquire(blocking=False):
            return
        try:
            now, deadline = self._store.now(), time.monotonic() + SWEEP_STEP
            if sweep.rest is None and sweep.begun <= now - LEFTOVER_AGE:
                sweep.begun, sweep.rest = now, self._delete_leftovers(now - LEFTOVER_AGE)
            while sweep.rest is not None and time.monotonic() < deadline:
                if next(sweep.rest, "the end") == "the end":
                    sweep.rest = None
        except StoreError as error:
            sweep.rest = None
            logger.warning("leftover objects are swept an hour later: %s", error)
        finally:
            sweep.lock.release()

    def _delete_leftovers(self, before: float) -> Iterator[None]:
        """Delete, page by page, the objects that were written until then and nobody will read."""
        namespace = self._namespace()
        if namespace is None:
            return
        for page in self._storage.list(namespace):
            old = [entry for entry in page if entry.written <= before]
            self._storage.delete(self._leftovers(old))
            yield

    def _leftovers(self, entries: list[Entry]) -> list[str]:
        readable = dict[str, Callable[[int], bool]]()
        found = []
        for entry in entries:
            key = _KEY.fullmatch(_UNFINISHED.sub("", entry.key))
            if key is None:
                continue
            operation_id = unquote(key[1], errors="surrogatepass")
            if operation_id not in readable:
                readable[operation_id] = self._what_may_be_read(operation_id)
            if not readable[operation_id](int(key[2])):
                found.append(entry.key)
        return found

    def _what_may_be_read(self, operation_id: str) -> Callable[[int], bool]:
        """Return what tells of a fence whether somebody may read what lies under it."""
        try:
            return partial(self._may_be_read, self._store.get(operation_id))
        except StoreUnavailable:
            raise
        except StoreError:  # it can't be read here: a newer raincheck may know better
            return lambda fence: True

    def _may_be_read(self, operation: Operation | None, fence: int) -> bool:
        if operation is None or operation.forgotten:
            return False
        if not operation.is_terminal:
            return True
        if fence == REQUEST_FENCE:
            return self._request(operation.id) is not None
        return operation.result is not None and fence == operation.result.fence

    # --- what is the store's own ---------------------------------------------------------------

    def create(
        self, operation: Operation, request: Request | None = None, dedupe: str | None = None
    ) -> Operation:
        return self._store.create(operation, request, dedupe)

    def holder(self, dedupe: str) -> Operation | None:
        return self._store.holder(dedupe)

    def get(self, operation_id: str) -> Operation | None:
        return self._store.get(operation_id) if operation_id != NAMESPACE else None

    def read_request(self, operation_id: str) -> Request | None:
        return self._store.read_request(operation_id)

    def find(
        self, which: Filter, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[Operation], str | None]:
        found, cursor = self._store.find(which, limit=limit, cursor=cursor)
        return [operation for operation in found if operation.id != NAMESPACE], cursor

    def count(self, which: Filter, limit: int) -> int:
        if which.states is not None and State.SUCCEEDED not in which.states:
            return Repository(self._store).count(which, limit)
        record = self._store.get(NAMESPACE)
        is_one = record is not None and which.matches(record)
        return min(limit, Repository(self._store).count(which, limit + is_one) - is_one)

    def workers(self) -> set[str]:
        return Repository(self._store).workers()

    def recall(self, name: str) -> bytes | None:
        return self._keeping.recall(name)

    def keep(self, name: str, old: bytes | None, new: bytes) -> bool:
        return self._keeping.keep(name, old, new)

    def watch(self, interval: float) -> Generator[str | None, None, None]:
        return self._store.watch(interval)

    def now(self) -> float:
        return self._store.now()

    def close(self) -> None:
        self._sweep_of.take()
        self._storage.close()
        self._store.close()


class LivingObjectBodies(ObjectBodies):
    """The same, over a store that sees who lives.

    Args:
        liveness: That store.
    """

    def __init__(self, store: Store, storage: Storage, liveness: Liveness) -> None:
        super().__init__(store, storage)
        self._liveness = liveness

    def incarnation(self) -> str:
        return self._liveness.incarnation()

    def lives(self, incarnation: str) -> bool:
        return self._liveness.lives(incarnation)


class _Sweep:
    """How far one process has come."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun = 0.0  # seconds since the epoch, by the store's clock
        self.rest: Iterator[None] | None = None


def _key(namespace: str, operation_id: str, fence: int, n: int, name: str) -> str:
    return f"{namespace}/{_quoted(operation_id)}/{fence}-{n}-{name}"


def _quoted(operation_id: str) -> str:
    """Make one segment of a path of any string; `.` and `..` would be no names."""
    return quote(operation_id, safe="", errors="surrogatepass").replace(".", "%2E")
