"""The work of the handlers under test: the test sees it begin, and says when it may end."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import anyio

from raincheck import CurrentOperation, OperationCancelled, current_operation

HEEDFUL = "heedful"  # the order whose work asks again and again whether it is still wanted
MADE_BY = "x-made-by"
PROGRESS = {"completed": 1, "total": 2, "message": "half done"}
LOOK = 0.005  # seconds between the looks of heedful work
AGES = 600.0  # seconds


class Work:
    """What one request has its handler do; `release` is called in the loop's thread."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.stopping = threading.Event()
        self.ended = threading.Event()
        self.thread = 0
        self.error: BaseException | None = None
        self.saw_cancelled: bool | None = None
        self.operation = CurrentOperation(None)
        self.notes: list[str] = []
        self._released = threading.Event()
        self._released_on_loop = asyncio.Event()

    def release(self) -> None:
        """Let the work end."""
        self._released.set()
        self._released_on_loop.set()

    async def on_loop(self, order: str) -> str:
        """Wait for the release; work that is cancelled cleans up until then."""
        self._begin()
        try:
            if order == HEEDFUL:
                await self._heed()
            await self._released_on_loop.wait()
        except asyncio.CancelledError:
            self.stopping.set()
            await self._clean_up()
            raise
        except OperationCancelled as error:
            self.error = error
            raise
        finally:
            self._end()
        return f"made of {order}"

    def in_thread(self, order: str) -> str:
        """Wait for the release, blocking; only heedful work can be stopped."""
        self._begin()
        try:
            while not self._released.wait(LOOK if order == HEEDFUL else AGES):
                current_operation().raise_if_cancelled()
        except OperationCancelled as error:
            self.error = error
            raise
        finally:
            self._end()
        return f"made of {order}"

    async def _clean_up(self) -> None:
        with anyio.CancelScope(shield=True):
            while not self._released.is_set():
                with suppress(asyncio.CancelledError):
                    await self._released_on_loop.wait()

    async def _heed(self) -> None:
        with anyio.CancelScope(shield=True):
            while not self._released.is_set():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(LOOK)
                current_operation().raise_if_cancelled()

    def _begin(self) -> None:
        self.thread = threading.get_ident()
        self.operation = current_operation()
        self.operation.progress(1, total=2, message="half done")
        self.started.set()

    def _end(self) -> None:
        self.saw_cancelled = current_operation().cancelled
        self.ended.set()
