"""The work of the handlers under test: the test sees it begin, and says when it may end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, wait
from contextlib import suppress

import anyio

from raincheck import CurrentOperation, OperationCancelled, current_operation

HEEDFUL = "heedful"  # the order whose work asks again and again whether it is still wanted
TROUBLE = "trouble"  # the order whose work raises `Trouble`
MADE_BY = "x-made-by"
PROGRESS = {"completed": 1, "total": 2, "message": "half done"}
LOOK = 0.005  # seconds between the looks of heedful work
AGES = 600.0  # seconds


class Trouble(Exception):
    """What the applications under test have an answer for."""


class Work:
    """What one request has its handler do, in whatever thread or loop."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.stopping = threading.Event()
        self.ended = threading.Event()
        self.thread = 0
        self.thread_name = ""
        self.error: BaseException | None = None
        self.saw_cancelled: bool | None = None
        self.operation = CurrentOperation(None)
        self.notes: list[str] = []
        self.steps: list[tuple[str, int]] = []  # each with the thread that took it
        self._released: Future[None] = Future()
        self._released.set_running_or_notify_cancel()  # who waits for it can't cancel it

    def release(self) -> None:
        """Let the work end."""
        if not self._released.done():
            self._released.set_result(None)

    def step(self, name: str) -> None:
        """Take note of what is done around the work, or of the work itself."""
        self.steps.append((name, threading.get_ident()))

    async def on_loop(self, order: str) -> str:
        """Wait for the release; work that is cancelled cleans up until then."""
        self._begin()
        try:
            _cause_trouble(order)
            if order == HEEDFUL:
                await self._heed()
            await asyncio.wrap_future(self._released)
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

    @property
    def own_steps(self) -> list[str]:
        """The steps that were taken in the handler's thread; a 202 and polls have theirs, too."""
        return [name for name, thread in self.steps if thread == self.thread]

    def in_thread(self, order: str) -> str:
        """Wait for the release, blocking; only heedful work can be stopped."""
        self._begin()
        try:
            _cause_trouble(order)
            while not wait([self._released], LOOK if order == HEEDFUL else AGES).done:
                current_operation().raise_if_cancelled()
        except OperationCancelled as error:
            self.error = error
            raise
        finally:
            self._end()
        return f"made of {order}"

    async def _clean_up(self) -> None:
        with anyio.CancelScope(shield=True):
            while not self._released.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wrap_future(self._released)

    async def _heed(self) -> None:
        with anyio.CancelScope(shield=True):
            while not self._released.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(LOOK)
                current_operation().raise_if_cancelled()

    def _begin(self) -> None:
        self.step("work")
        self.thread = threading.get_ident()
        self.thread_name = threading.current_thread().name
        self.operation = current_operation()
        self.operation.progress(1, total=2, message="half done")
        self.started.set()

    def _end(self) -> None:
        self.saw_cancelled = current_operation().cancelled
        self.ended.set()


def _cause_trouble(order: str) -> None:
    if order == TROUBLE:
        raise Trouble("not again")
