"""The part of a request body that was read ahead of the handler: in memory, then in a file.

Bytes and their end are kept exactly, the borders between messages are not.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import anyio

from raincheck.asgi.file_threads import in_file_thread
from raincheck.http.spool import Spooled, SpoolFile

if TYPE_CHECKING:
    from starlette.types import Message

logger = logging.getLogger("raincheck")

IN_MEMORY = 1024 * 1024  # bytes; what exceeds them goes to a temporary file
JOINED = 64 * 1024  # bytes; messages are joined up to so many, as each costs more than its bytes
MOST_EMPTY = 1_000  # messages without a byte; who sends more only keeps somebody busy


class Upload:
    """Messages for the handler, read by somebody else.

    Attributes:
        has_room: Whether there was room for all of it.

    Args:
        limit: Bytes that may be read ahead.
        spooled: Counts those in temporary files.
    """

    def __init__(self, limit: int, spooled: Spooled) -> None:
        self.is_being_read = False
        self._messages: deque[Message] = deque()  # the beginning
        self._held = 0  # bytes in them
        self._file: SpoolFile | None = None  # what comes next
        self._rest: deque[Message] = deque()  # what follows on the file, if there is one
        self._limit = limit
        self._spooled = spooled
        self._size = 0
        self._empty = 0  # messages
        self.has_room = True
        self._taking: anyio.Lock | None = None
        self._arrival: anyio.Event | None = None

    @property
    def is_too_large(self) -> bool:
        """Whether more was read than may be, or than there is room for."""
        return self._size > self._limit or not self.has_room or self._empty > MOST_EMPTY

    async def put(self, message: Message) -> None:
        """Keep a message for the handler."""
        size = len(message.get("body", b""))
        self._size += size
        if not size and message.get("more_body"):
            self._empty += 1
        elif self._file is None and self._held + size <= IN_MEMORY:
            self._held += size
            self._hold(message)
        else:
            await self._put_aside(message)

    def _hold(self, message: Message) -> None:
        last = self._messages[-1] if self._messages else {}
        size = len(last.get("body", b"")) + len(message.get("body", b""))
        if not last.get("more_body") or message["type"] != "http.request" or size > JOINED:
            # As bytes: another buffer would be the server's own, which is not to be added to.
            own = {"body": bytes(message["body"])} if "body" in message else {}
            self._messages.append({**message, **own})
            return
        if isinstance(last["body"], bytes):
            last["body"] = bytearray(last["body"])
        last["body"] += message.get("body", b"")
        last["more_body"] = message.get("more_body", False)

    async def _put_aside(self, message: Message) -> None:
        self._taking = self._taking or anyio.Lock()
        try:
            if message.get("body"):
                if self._file is None:
                    self._file = await in_file_thread(SpoolFile, self._spooled)
                await in_file_thread(self._file.append, message["body"])
                message = {**message, "body": b""}
        except Exception as error:  # of the file, or there can't be a thread
            logger.warning("an upload is not read ahead: %s", error)
            self.has_room = False
        if message.get("body") or not message.get("more_body"):  # or it says nothing any more
            self._rest.append(message)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of what nobody has taken yet, without taking them; may block."""
        for message in list(self._messages):
            yield bytes(message.get("body", b""))  # what is being read can't be added to
        if self._file is not None:
            yield from self._file.pieces()
        for message in list(self._rest):
            yield message.get("body", b"")

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
        while True:
            if self._messages:
                message = self._messages.popleft()
                self._held -= len(message.get("body", b""))
                return {**message, "body": bytes(message["body"])} if "body" in message else message
            if self._file is not None and (piece := await self._next_piece(self._file)):
                return {"type": "http.request", "body": piece, "more_body": True}
            if self._rest:
                await self.close()
            if self._rest:  # still: a handler may wait for messages in two tasks
                return self._rest.popleft()
            if not self.is_being_read:
                return None
            self._arrival = self._arrival or anyio.Event()
            await self._arrival.wait()

    async def _next_piece(self, file: SpoolFile) -> bytes:
        assert self._taking is not None  # noqa: S101 - it came with the file
        async with self._taking:
            if file.is_drained:
                return b""
            piece = await in_file_thread(file.peek)
            file.position += len(piece)  # not in the thread: a cancelled handler has not got it
            return piece

    async def close(self) -> None:
        """Delete the file, if there is one, whether it was read or not."""
        if self._file is not None and not self._file.is_closed:
            with anyio.CancelScope(shield=True):
                await in_file_thread(self._file.close)  # that of a GiB takes its time
