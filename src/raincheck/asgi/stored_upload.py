"""The body of a captured request, as its handler receives it again."""

from __future__ import annotations

from io import BytesIO
from typing import IO, TYPE_CHECKING
from weakref import finalize

import anyio

from raincheck.asgi.file_threads import in_file_thread
from raincheck.http.spool import PIECE

if TYPE_CHECKING:
    from starlette.types import Message


class StoredUpload:
    """Gives a file as messages, then nothing more."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        # finalize, too: a loop that ends may never come to close it.
        self._close = finalize(self, file.close)
        self._is_drained = False
        self._is_in_memory = isinstance(file, BytesIO)  # or it may block

    async def take(self) -> Message | None:
        """Return the next message for the handler; None when it has had them all."""
        if self._is_drained:
            return None
        if self._is_in_memory:
            piece = self._file.read(PIECE)
        else:
            piece = await in_file_thread(self._file.read, PIECE)
        self._is_drained = len(piece) < PIECE
        return {"type": "http.request", "body": piece, "more_body": not self._is_drained}

    async def close(self) -> None:
        """Let go of the file."""
        self._is_drained = True
        if self._is_in_memory:
            self._close()
            return
        with anyio.CancelScope(shield=True):
            await in_file_thread(self._close)
