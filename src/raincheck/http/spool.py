"""Temporary files for request bodies: unnamed, bounded together, gone with whoever has them."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import IO
from weakref import finalize

PIECE = 256 * 1024  # bytes


class Spooled:
    """Bytes of request bodies in temporary files of this process; a fork has written none."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._bytes: dict[int, int] = {}
        self._lock = threading.Lock()

    def add(self, size: int) -> bool:
        """Take note of so many bytes more, or less; False if that is more than there may be."""
        pid = os.getpid()
        with self._lock:
            total = self._bytes.get(pid, 0) + size
            if size > 0 and total > self.limit:
                return False
            self._bytes[pid] = total
            return True


class SpoolFile:
    """An unnamed file that is read while it is still being written.

    Args:
        spooled: Counts the bytes of all such files.

    Attributes:
        position: Bytes that were read.
        size: Bytes that were written.
    """

    def __init__(self, spooled: Spooled) -> None:
        # Never named, where the system can do that: a killed process would leave the name behind.
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - see below
        self._lock = threading.Lock()  # a closed descriptor may soon be another file's
        self._descriptor = file.fileno()
        self._spooled = spooled
        self._counted = [0]  # bytes
        # finalize, too: whoever should close it may be cancelled first.
        self._close = finalize(self, _close, file, spooled, self._counted)
        self.size = 0
        self.position = 0

    @property
    def is_closed(self) -> bool:
        """Whether it is gone."""
        return not self._close.alive

    @property
    def is_drained(self) -> bool:
        """Whether there is nothing more to be read now."""
        return self.is_closed or self.position == self.size

    def append(self, data: bytes) -> None:
        """Write all of `data`.

        Raises:
            OSError: There is no room for it, on the disk or within the limit.
        """
        with self._lock:
            if self.is_closed:
                return
            if not self._spooled.add(len(data)):
                raise OSError(errno.EDQUOT, f"the limit `spooled` of {self._spooled.limit} bytes")
            self._counted[0] += len(data)
            self._write(memoryview(data))

    def _write(self, rest: memoryview) -> None:
        position = self.size
        while rest:
            written = os.pwrite(self._descriptor, rest, position)
            rest, position = rest[written:], position + written
        self.size = position

    def peek(self) -> bytes:
        """Return the next bytes."""
        return self.read(self.position)

    def pieces(self) -> Iterator[bytes]:
        """Yield all that was written, whether it was read or not.

        Raises:
            ValueError: It was closed meanwhile.
        """
        position = 0
        while piece := self.read(position):
            position += len(piece)
            yield piece
        if position != self.size:
            raise ValueError("the temporary file was closed while it was read")

    def read(self, position: int, size: int = PIECE) -> bytes:
        """Return the bytes at a position, at most `size`; none once it is closed."""
        with self._lock:
            if self.is_closed:
                return b""
            return os.pread(self._descriptor, max(0, min(size, self.size - position)), position)

    def close(self) -> None:
        """Delete it; a second time does nothing."""
        with self._lock:
            self._close()


def _close(file: IO[bytes], spooled: Spooled, counted: list[int]) -> None:
    file.close()
    spooled.add(-counted[0])
