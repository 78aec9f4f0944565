"""What the store could not take yet: chunks and endings, kept by this process until it can.

A handler that is done is not held up by a store that is not there, and what it gave is not lost.
Bytes are kept in memory up to a bound that all operations of the process share, then in a
temporary file that has no name.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import IO

from raincheck.errors import StoreError, StoreUnavailable, abbreviate
from raincheck.operations.operation import Operation, Reason, State
from raincheck.operations.transitions import Ended, Responded

logger = logging.getLogger("raincheck")

MEMORY = 32 * 1024 * 1024  # bytes
PAUSES = (0.1, 0.4, 1.5)  # seconds before there is to be room again, where there was none
TURN = 5.0  # seconds of handing over at a time: whoever does it has leases to renew, too


def if_unexpected(error: Exception) -> Exception | None:
    """Return the error if it is none that a store may raise: a log then shows where it was met."""
    return None if isinstance(error, StoreError) else error


@dataclass(frozen=True, slots=True)
class Ending:
    """How an operation ended, and the last chunk of its body, not yet written.

    Attributes:
        last: The chunk's number and bytes; None where there is none.
        is_doubtful: Whether the store may have lost chunks that it had taken.
        lets_go: Whether what was coalesced lets go of its key: its client had no 202.
    """

    event: Responded | Ended
    last: tuple[int, bytes] | None = None
    is_doubtful: bool = False
    lets_go: bool = False

    def has_made(self, operation: Operation, fence: int) -> bool:
        """Tell whether an operation is as this would have ended it."""
        if operation.fence != fence or not operation.is_terminal:
            return False
        result = self.event.result if isinstance(self.event, Responded) else None
        reason = self.event.reason if isinstance(self.event, Ended) else None
        as_said = (operation.result, operation.reason) == (result, reason)
        return as_said or operation.state is State.CANCELLED


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk: its number, and its bytes or where in the file they are."""

    n: int
    size: int
    data: bytes | None
    start: int = 0


@dataclass(slots=True)
class _Entry:
    """What one operation waits to hand over; `chunks` first."""

    operation: Operation
    chunks: deque[_Piece] = field(default_factory=deque)
    ending: Ending | None = None
    has_failed: bool = False  # when it was last to be handed over


class Outbox:
    """Keeps chunks and endings, and hands them over in order. Thread-safe.

    Args:
        pauses: Seconds to wait again and again for room; meanwhile a handler goes no further.
    """

    def __init__(self, pauses: Sequence[float] = PAUSES) -> None:
        self._pauses = pauses
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self._handing_over = threading.Lock()
        self._spool = _Spool()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, operation_id: str) -> bool:
        return operation_id in self._entries

    def operation(self, operation_id: str) -> Operation | None:
        """Return an operation of which something waits, as it was when it ran."""
        entry = self._entries.get(operation_id)
        return None if entry is None else entry.operation

    def ended(self) -> list[Operation]:
        """Return the operations of which an ending waits, as they were when they ran."""
        with self._lock:
            entries = list(self._entries.values())
        return [entry.operation for entry in entries if entry.ending is not None]

    def keep(self, operation: Operation, n: int, data: bytes) -> None:
        """Keep a chunk.

        Raises:
            StoreUnavailable: There is no room for it either, some seconds later still not.
        """
        for pause in self._pauses:
            try:
                return self._keep(operation, n, data)
            except StoreUnavailable:
                time.sleep(pause)
        return self._keep(operation, n, data)

    def _keep(self, operation: Operation, n: int, data: bytes) -> None:
        with self._lock:
            entry = self._entry(operation)
            if entry.ending is None:  # or it is lost already
                entry.chunks.append(self._spool.put(n, data))

    def end(self, operation: Operation, ending: Ending) -> None:
        """Keep how an operation ended; whatever there is no room for is lost, and this says so."""
        if isinstance(ending.event, Ended):  # there is no response: room for others
            with self._lock:
                self._clear(self._entry(operation))
        try:
            if ending.last is not None:
                self.keep(operation, *ending.last)
        except StoreUnavailable as error:
            with self._lock:
                self._lose(self._entry(operation), error)
            return
        with self._lock:
            # The store failed: who knows what is left of what it had taken.
            self._entry(operation).ending = replace(ending, last=None, is_doubtful=True)

    def hand_over(
        self,
        write: Callable[[Operation, int, bytes], None],
        record: Callable[[Operation, Ending], None],
    ) -> None:
        """Give to the store what there is, for 5 s; what fails is kept, and holds up no other.

        Raises:
            Exception: What failed last; `StoreError` unless that is unexpected.
        """
        failure: Exception | None = None
        with self._handing_over:
            end = time.monotonic() + TURN
            # What failed comes last: it may use up all the time.
            for entry in sorted(self._entries.values(), key=lambda each: each.has_failed):
                try:
                    self._hand_over(entry, write, record, end)
                    entry.has_failed = False
                except Exception as error:
                    entry.has_failed = True
                    failure = error
        if failure is not None:
            raise failure

    def _hand_over(
        self,
        entry: _Entry,
        write: Callable[[Operation, int, bytes], None],
        record: Callable[[Operation, Ending], None],
        end: float,
    ) -> None:
        while not self._is_done(entry) and time.monotonic() < end:
            try:
                self._hand_over_next(entry, write, record)
            except StoreUnavailable:
                raise
            except Exception as error:  # it will never take this
                with self._lock:
                    if entry.ending is not None and isinstance(entry.ending.event, Ended):
                        raise  # there is nothing to give up but the end itself
                    self._lose(entry, error)

    def _hand_over_next(
        self,
        entry: _Entry,
        write: Callable[[Operation, int, bytes], None],
        record: Callable[[Operation, Ending], None],
    ) -> None:
        with self._lock:  # once: what is lost in between would be gone from the file, too
            piece = entry.chunks[0] if entry.chunks else None
            data = self._spool.get(piece) if piece is not None else b""
            ending = entry.ending
        if piece is not None:
            write(entry.operation, piece.n, data)
            with self._lock:
                self._drop(entry, piece)
        elif ending is not None:
            record(entry.operation, ending)
            with self._lock:
                entry.ending = None

    def _is_done(self, entry: _Entry) -> bool:
        """Let go of an entry that waits for nothing; its handler may still run."""
        with self._lock:
            if entry.chunks or entry.ending is not None:
                return False
            del self._entries[entry.operation.id]
            return True

    def _entry(self, operation: Operation) -> _Entry:
        return self._entries.setdefault(operation.id, _Entry(operation))

    def _drop(self, entry: _Entry, piece: _Piece) -> None:
        if entry.chunks and entry.chunks[0] is piece:  # or all were dropped meanwhile
            self._spool.drop(entry.chunks.popleft())

    def _clear(self, entry: _Entry) -> None:
        while entry.chunks:
            self._spool.drop(entry.chunks.popleft())

    def _lose(self, entry: _Entry, error: Exception) -> None:
        self._clear(entry)
        entry.ending = Ending(Ended(Reason.RESPONSE_LOST))
        logger.error(
            "the response of %s is lost: %s",
            abbreviate(entry.operation.id),
            error,
            exc_info=if_unexpected(error),
        )


class _Spool:
    """Room for bytes: some in memory, the rest in a file."""

    def __init__(self) -> None:
        self._memory = 0  # bytes
        self._in_file = 0  # pieces
        self._file: IO[bytes] | None = None

    def put(self, n: int, data: bytes) -> _Piece:
        """Keep bytes.

        Raises:
            StoreUnavailable: The file can't be written.
        """
        if self._memory + len(data) <= MEMORY:
            self._memory += len(data)
            return _Piece(n, len(data), data)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - see `drop`
            start = self._file.seek(0, 2)
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._close_if_unused()
            raise StoreUnavailable(f"no room for what the store can't take now: {error}") from error
        self._in_file += 1
        return _Piece(n, len(data), None, start)

    def get(self, piece: _Piece) -> bytes:
        """Return a piece's bytes.

        Raises:
            StoreUnavailable: The file can't be read now.
            StoreError: It is not all there.
        """
        if piece.data is not None:
            return piece.data
        assert self._file is not None  # noqa: S101 - for the type checker
        try:
            data = os.pread(self._file.fileno(), piece.size, piece.start)
        except OSError as error:
            text = f"what was kept for the store can't be read now: {error}"
            raise StoreUnavailable(text) from error
        if len(data) != piece.size:
            raise StoreError("what was kept for the store is not there any more")
        return data

    def drop(self, piece: _Piece) -> None:
        """Let go of a piece; the file goes with its last one."""
        if piece.data is not None:
            self._memory -= piece.size
            return
        self._in_file -= 1
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if not self._in_file and self._file is not None:
            self._file.close()
            self._file = None
