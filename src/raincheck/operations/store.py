"""What a store must do: the specification that every store is tested against.

All calls are synchronous and atomic, take one round trip, and may come from any thread of any
process. A store knows no rules: states, fences and leases are data to it. Constructing one opens
nothing; it opens what it needs at its first use, again in every process that was forked since.
A store that can't do what it is asked raises `StoreError`; `StoreUnavailable` if it may work
later. No call blocks for more than about ten seconds. An error names no whole id, as who knows one
may read its response (`errors.abbreviate`). A fork may come at any moment, whatever other threads
are doing; the store works in both processes.

A store keeps any text of Unicode characters but NUL in ids, owners, queues and workers, and any
number that 64 bits hold. Text that it can't keep is a `StoreError`. It keeps whatever
`records.encode` writes, and knows none of it: during a deploy, operations may have states and
fields of a newer raincheck.

A store that talks to a server may lose an answer. So `create` and `swap` may be repeated: where
the store holds exactly what they were to write, they have succeeded; where it has changed since,
they are refused as any other would be.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, State


@dataclass(frozen=True, slots=True)
class Filter:
    """Which operations to find; all conditions must hold, and None is no condition.

    Attributes:
        states: The states looked for.
        owner: Exactly this owner.
        worker: Exactly this worker.
        queue: Exactly this queue; empty: in none.
        lease_before: A lease that ends at or before this time (seconds since the epoch).
        expires_before: An expiry at or before this time (seconds since the epoch).
        forgotten: Whether the response was given up.
        application: Of the application of this name, wherever that is mounted.
    """

    states: frozenset[State] | None = None
    owner: str | None = None
    worker: str | None = None
    queue: str | None = None
    lease_before: float | None = None
    expires_before: float | None = None
    forgotten: bool | None = None
    application: str | None = None

    def matches(self, operation: Operation) -> bool:
        """Tell whether an operation meets all conditions."""
        return (
            (self.states is None or operation.state in self.states)
            and (self.owner is None or operation.owner == self.owner)
            and (self.worker is None or operation.worker == self.worker)
            and (self.queue is None or (operation.queue or "") == self.queue)
            and _is_due(operation.lease, self.lease_before)
            and _is_due(operation.expires, self.expires_before)
            and (self.forgotten is None or operation.forgotten == self.forgotten)
            and (self.application is None or operation.application_name == self.application)
        )


def _is_due(moment: float | None, before: float | None) -> bool:
    return before is None or (moment is not None and moment <= before)


LEFTOVER_AGE = 3600.0  # seconds that chunks without a record are kept: it may be about to come
KEPT_AGE = 90 * 86_400.0  # seconds for which what was kept by a name is not deleted


class Store(Protocol):
    """Keeps operations, captured requests, and bodies in chunks.

    A store for which another size of chunks is better than 256 KiB may have an attribute
    `chunk_size` (bytes).
    """

    def create(
        self, operation: Operation, request: Request | None = None, dedupe: str | None = None
    ) -> Operation:
        """Keep a new operation and, if given, the request it is to be run from.

        The request's body is no part of it: its chunks are written before, as fence 0.

        Returns:
            `operation`, or the one that already holds `dedupe` until it is purged; then nothing
            is kept of the new one.

        Raises:
            StoreError: The id is taken by another operation, or nothing could be kept.
        """
        ...

    def holder(self, dedupe: str) -> Operation | None:
        """Return the operation that holds a dedupe key; None if none does."""
        ...

    def get(self, operation_id: str) -> Operation | None:
        """Return the operation; None if there is none (any string may be asked for)."""
        ...

    def swap(
        self,
        old: Operation,
        new: Operation,
        *,
        drop_request: bool = False,
        drop_dedupe: bool = False,
    ) -> bool:
        """Replace `old` by `new` if the stored version is still `old.version`.

        `new` has the same id. Only `old.version` is compared. Whoever sees `new` also sees every
        chunk that was written before. Request, body and dedupe key stay, unless they are to go:

        Args:
            drop_request: Whoever sees `new` finds no request any more, nor chunks of fence 0. They
                may hold credentials.
            drop_dedupe: Whoever sees `new` may use the dedupe key for another operation.

        Returns:
            False if the version is another one or the operation is gone. Nothing changed then,
            unless an answer was lost and somebody else has changed it since.
        """
        ...

    def read_request(self, operation_id: str) -> Request | None:
        """Return the request kept by `create`; None if there is none or it was discarded."""
        ...

    def write_chunk(self, operation_id: str, fence: int, n: int, data: bytes) -> None:
        """Keep chunk `n` (from 0) of the body written under `fence`; the same again replaces it.

        A writer that has lost its fence leaves nothing behind, wherever it is overtaken: nothing
        of a response is kept, and none of an earlier chunk replaced, where
        `operation.is_overtaken` says so of the record, as it is when the chunk would come to be
        seen. That is no error: the writer hears of it when it comes to the end. Where there is no
        record, a chunk is kept, as the record may be about to come, or to come again; one that
        comes after its record was purged is a leftover (see `purge`).
        """
        ...

    def read_chunks(self, operation_id: str, fence: int, start: int, stop: int) -> Iterator[bytes]:
        """Yield the chunks `start` to `stop` (exclusive) one by one, never all at once in memory.

        Nothing stays open or locked while the caller does something else.

        Raises:
            BodyMissing: Before or while iterating, if one of them is not there.
        """
        ...

    def discard(self, operation_id: str) -> None:
        """Delete all chunks and the request of an operation; record and key stay. Idempotent."""
        ...

    def find(
        self, which: Filter, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[Operation], str | None]:
        """Return at most `limit` operations in order of creation, those of one moment by id.

        With `expires_before` they come in order of expiry, those of one moment in any. What is
        found seldom, and by many processes, is found without a look at anything else: what has
        expired; what is in flight, and of that what has one worker or a lease that ends.

        One that can't be read is left out, said once, and left alone: a newer raincheck may have
        written it; with many of them a page may be short. `create`, `get` and `holder` raise a
        `StoreError` where they would return it.

        The cursor is a place in that order: operations that are changed, created or purged
        between two pages make no other one appear twice, or not at all.

        Returns:
            The operations, and the cursor for the next call; None at the end.
        """
        ...

    def purge(self, before: float, limit: int = 500) -> int:
        """Delete forgotten operations that expired at or before `before`, with all they left.

        Also deletes leftovers that no record refers to, once they are `LEFTOVER_AGE` old.

        Returns:
            How many operations were deleted, at most `limit`; each counts in one of the purges
            that run at the same time. Leftovers don't count.
        """
        ...

    def watch(self, interval: float) -> Generator[str | None, None, None]:
        """Yield the ids of operations that `create` or `swap` has changed, soon after.

        These are hints and never the truth: under load some may be missing, repeated, or of
        nothing; in quiet times each is heard in milliseconds, from all processes that share the
        store. What only renews a lease need not be told. A watch that nobody reads holds nobody
        up. One watch, in one thread, serves a whole process.

        Args:
            interval: Seconds after which None is yielded when there was nothing else, so that the
                caller can look around.

        Returns:
            A generator whose first value is None: from then on it hears what changes. Any None
            may also mean that something has changed unheard. Closing it releases what it has.

        Raises:
            StoreUnavailable: While iterating, if nothing can be heard any more; watch again.
        """
        ...

    def now(self) -> float:
        """Return the time, seconds since the epoch, by the one clock that all users share."""
        ...

    def close(self) -> None:
        """Release what this process has opened; a later call opens it again.

        Calls that other threads are in end well. May be called before the first use, and twice.
        """
        ...


@runtime_checkable
class Counting(Protocol):
    """What a store can also do so that nobody reads records who only counts them.

    All of raincheck's own can; of others `find` is asked.
    """

    def count(self, which: Filter, limit: int) -> int:
        """Return how many operations `find` would find; `limit` if they are that many or more.

        How many are in flight, of all or of one owner and application, takes no longer with more
        that have ended, and reads no record.
        """
        ...

    def workers(self) -> set[str]:
        """Return the worker of each operation that is `CLAIMED`; of some that were, too."""
        ...


@runtime_checkable
class Glancing(Protocol):
    """What a store can also do so that polls need no thread: it shows what is at hand.

    It takes some microseconds, and waits for nobody: event loops call it. What it shows is as `get`
    and `read_chunks` would show it. Where it raises anything, they are asked.
    """

    def glance(self, operation_id: str) -> Operation | None:
        """Return the operation; None: only `get` can tell."""
        ...

    def glance_at_chunk(self, operation_id: str, fence: int, n: int) -> bytes | None:
        """Return a chunk; None: only `read_chunks` can."""
        ...


@runtime_checkable
class Gathering(Protocol):
    """What a store can also do so that polls that come together take one round trip."""

    def get_all(self, operation_ids: Collection[str]) -> Mapping[str, Operation]:
        """Return those operations that there are and can be read, by their ids."""
        ...


@runtime_checkable
class Fetching(Protocol):
    """What a store can also do so that who takes an operation up asks for all of it at once."""

    def fetch(self, operation_id: str) -> tuple[Operation, Request | None] | None:
        """Return what `get` and `read_request` would; None if there is no operation.

        Raises:
            StoreError: One of the two would raise it.
        """
        ...


@runtime_checkable
class Concluding(Protocol):
    """What a store can also do so that most operations end in one round trip."""

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
        """Keep chunk `n` of the body under the fence of `new`, then `swap`.

        Returns:
            False if it was not swapped; then it does not matter whether the chunk was kept.
        """
        ...


@runtime_checkable
class Liveness(Protocol):
    """What a store can also do if it sees for itself whether a process lives."""

    def incarnation(self) -> str:
        """Return the name of this process, which no other process ever had or will have."""
        ...

    def lives(self, incarnation: str) -> bool:
        """Tell whether that process still exists; true while it is stopped or stuck, too."""
        ...


@runtime_checkable
class Keeping(Protocol):
    """What a store can also do so that processes share what they learn: it keeps small values.

    All of raincheck's own can; with others each process learns for itself. A name has at most 100
    characters of ASCII, a value at most 256 KiB.
    """

    def recall(self, name: str) -> bytes | None:
        """Return the value that was kept last; None if there is none."""
        ...

    def keep(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Keep a value in place of `old`, which None says is none.

        It may be repeated, as `swap` may: so let a value have in it what no other writer's has. A
        purge may delete what was kept last `KEPT_AGE` ago.

        Returns:
            False if the value is neither `old` nor `new`; nothing changed then.
        """
        ...
