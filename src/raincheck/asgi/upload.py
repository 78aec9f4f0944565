"""The part of a request body that was read ahead of the handler."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from starlette.types import Message


class Upload:
    """Messages for the handler, read by somebody else.

    Args:
        limit: Bytes that may be read ahead.
    """

    def __init__(self, limit: int) -> None:
        self.messages: deque[Message] = deque()
        self.is_being_read = False
        self._limit = limit
        self._size = 0
        self._arrival: anyio.Event | None = None

    @property
    def is_too_large(self) -> bool:
        """Whether more was read than may be."""
        return self._size > self._limit

    def put(self, message: Message) -> None:
        """Keep a message for the handler."""
        self._size += len(message.get("body", b""))
        self.messages.append(message)

    def begin_reading(self) -> None:
        """Say that somebody reads for the handler, which waits meanwhile."""
        self.is_being_read = True

    def end_reading(self) -> None:
        """Let the handler look whether there is a message for it."""
        self.is_being_read = False
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None

    async def take(self) -> Message | None:
        """Return the next message for the handler; None if there is none and nobody reads."""
        while not self.messages:
            if not self.is_being_read:
                return None
            self._arrival = self._arrival or anyio.Event()
            await self._arrival.wait()
        return self.messages.popleft()
