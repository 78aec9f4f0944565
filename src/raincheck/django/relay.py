"""A streamed response on its way from the task that records it to whoever sends it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable

import anyio


class Relay:
    """Hands chunks over, one at a time: who streams waits for who takes, as without it.

    Args:
        left: Called once when nobody takes any more.
    """

    def __init__(self, left: Callable[[], None]) -> None:
        self._chunks: deque[bytes] = deque()
        self._changed = anyio.Event()
        self._left: Callable[[], None] | None = left
        self._is_over = False
        self._error: BaseException | None = None

    async def put(self, chunk: bytes) -> None:
        """Hand a chunk over, as soon as the last one was taken."""
        while self._chunks and self._left is not None:
            await self._changed.wait()
        if chunk and self._left is not None:
            self._chunks.append(chunk)
            self._notify()

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more comes, or what was raised instead."""
        self._is_over, self._error = True, error
        self._notify()

    def close(self) -> None:
        """Say that nobody takes any more."""
        left, self._left = self._left, None
        if left is not None:
            self._chunks.clear()
            self._notify()
            left()

    async def content(self) -> AsyncIterator[bytes]:
        """Yield what comes."""
        try:
            while self._chunks or not self._is_over:
                if not self._chunks:
                    await self._changed.wait()
                    continue
                chunk = self._chunks.popleft()
                self._notify()
                yield chunk
            error, self._error = self._error, None
            if error is not None:
                raise error
        finally:
            self.close()

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
