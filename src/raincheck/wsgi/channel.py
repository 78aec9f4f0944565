"""A response on its way from the handler's thread to the server's."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence

AHEAD = 256 * 1024  # bytes that may wait for the server, beside one chunk of any size


class Channel:
    """Chunks that one thread puts and another one takes.

    Args:
        changed: The lock of both, and what to wait for.

    Attributes:
        whole: The body as the application returned it, if all of it was in memory.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self.whole: Sequence[bytes] | None = None
        self._changed = changed
        self._chunks: deque[bytes] = deque()
        self._waiting = 0  # bytes
        self._is_complete = False
        self._is_abandoned = False
        self._error: BaseException | None = None

    def put(self, chunk: bytes, *, is_last: bool) -> bool:
        """Add a chunk, as soon as there is room for it; False if nobody takes it any more."""
        with self._changed:
            while self._waiting > AHEAD and not self._is_abandoned:
                self._changed.wait()
            if not self._is_complete:  # what exceeds the declared length is nobody's
                self._chunks.append(chunk)
                self._waiting += len(chunk)
                self._is_complete = is_last
            self._changed.notify_all()
            return not self._is_abandoned

    def put_whole(self, body: Sequence[bytes]) -> None:
        """Hand over a body that is in memory as it is: servers look at its length."""
        with self._changed:
            self.whole, self._is_complete = body, True
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> bool:
        """Say that no more comes; False if an error comes too late for the server."""
        with self._changed:
            if self._is_complete or self._is_abandoned:
                return error is None
            self._is_complete, self._error = True, error
            self._changed.notify_all()
            return True

    def wait(self) -> None:
        """Wait for the beginning of the response, or for what was raised instead of it."""
        with self._changed:
            while not self._chunks and not self._is_complete:
                self._changed.wait()
        if not self._chunks:
            self._raise()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            while not self._chunks and not self._is_complete:
                self._changed.wait()
            if self._chunks:
                chunk = self._chunks.popleft()
                self._waiting -= len(chunk)
                self._changed.notify_all()
                return chunk
        self._raise()
        raise StopIteration

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame

    def close(self) -> None:
        """Say that the server takes no more: it has all, or its client has left."""
        with self._changed:
            self._is_abandoned = True
            self._error = None  # its traceback refers to this object
            self._chunks.clear()
            self._changed.notify_all()
