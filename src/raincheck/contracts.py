"""What a store must do: the specification that every store is tested against.

All calls are synchronous and atomic, take one round trip, and may come from any thread of any
process. A store knows no rules: states, fences and leases are data to it. Constructing one opens
nothing; it opens what it needs at its first use, again in every process that was forked since.
A store that can't do what it is asked raises `StoreError`; `StoreUnavailable` if it may work
later. No call blocks without end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from raincheck.messages import Request
from raincheck.operation import Operation, State


@dataclass(frozen=True, slots=True)
class Filter:
    """Which operations to find; all conditions must hold, and None is no condition.

    Attributes:
        states: The states looked for.
        owner: Exactly this owner.
        worker: Exactly this worker.
        queue: Exactly this queue.
        lease_before: A lease that ends at or before this time (seconds since the epoch).
        expires_before: An expiry at or before this time (seconds since the epoch).
        forgotten: Whether the response was given up.
    """

    states: frozenset[State] | None = None
    owner: str | None = None
    worker: str | None = None
    queue: str | None = None
    lease_before: float | None = None
    expires_before: float | None = None
    forgotten: bool | None = None


class Store(Protocol):
    """Keeps operations, captured requests, and response bodies in chunks."""

    def create(
        self, operation: Operation, request: Request | None = None, dedupe: str | None = None
    ) -> Operation:
        """Keep a new operation and, if given, the request it is to be run from.

        Returns:
            `operation`, or the one that already holds `dedupe` until it is purged; then nothing
            is kept of the new one.

        Raises:
            StoreError: The id is taken, or nothing could be kept. What was not kept leaves no
                trace.
        """
        ...

    def get(self, operation_id: str) -> Operation | None:
        """Return the operation; None if there is none (any string may be asked for)."""
        ...

    def swap(self, old: Operation, new: Operation) -> bool:
        """Replace `old` by `new` if the stored version is still `old.version`.

        `new` has the same id. Whoever sees `new` also sees every chunk that was written before.

        Returns:
            False if the version is another one or the operation is gone; then nothing changed.
        """
        ...

    def read_request(self, operation_id: str) -> Request | None:
        """Return the request kept by `create`; None if there is none or it was discarded."""
        ...

    def write_chunk(self, operation_id: str, fence: int, n: int, data: bytes) -> None:
        """Keep chunk `n` (from 0) of the body written under `fence`; the same again replaces it."""
        ...

    def read_chunks(self, operation_id: str, fence: int, start: int, stop: int) -> Iterator[bytes]:
        """Yield the chunks `start` to `stop` (exclusive) one by one, never all at once in memory.

        Raises:
            BodyMissing: Before or while iterating, if one of them is not there.
        """
        ...

    def discard(self, operation_id: str) -> None:
        """Delete all chunks and the request of an operation; its record stays. Idempotent."""
        ...

    def find(
        self, which: Filter, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[Operation], str | None]:
        """Return at most `limit` operations in order of creation, and where to go on.

        Returns:
            The operations, and the cursor for the next call; None at the end.
        """
        ...

    def purge(self, before: float, limit: int = 500) -> int:
        """Delete forgotten operations that expired at or before `before`, with all they left.

        Also deletes leftovers that no record refers to, once they are an hour old.

        Returns:
            How many operations were deleted, at most `limit`.
        """
        ...

    def now(self) -> float:
        """Return the time by the one clock that all users of this store share."""
        ...

    def close(self) -> None:
        """Release what this process has opened; a later call opens it again."""
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


class Run(Protocol):
    """A handler that runs in this process, as the core needs to see it. Thread-safe."""

    def request_cancel(self) -> None:
        """Ask the handler to stop; returns at once."""
        ...
