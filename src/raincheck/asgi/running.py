"""Who still runs in this process: kept alive, waited for when the process is to end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import anyio
import anyio.lowlevel

from raincheck.asgi.loops import Loop, running_loop
from raincheck.asgi.reactor import drain_with_the_reactor
from raincheck.engine.engine import Engine
from raincheck.engine.running import LAST_WORDS, Deferred
from raincheck.operations.operation import Reason

logger = logging.getLogger("raincheck")


class DeferredHere(Deferred, Protocol):
    """The same, in an event loop."""

    @property
    def loop(self) -> Loop:
        """Where it runs."""
        ...

    def abort(self) -> None:
        """Cancel the handler's task, whatever it waits for."""
        ...


class Running:
    """The deferred handlers of one middleware, and the event loop they run in.

    Args:
        close: Lets all polls that wait have their answers now.

    Attributes:
        loop: The event loop that requests came in last; it may be closed. None: before the first,
            and after a drain.
        is_told_of_shutdown: Whether something will have it drain.
        is_stopping: Whether it has begun to drain.
    """

    def __init__(self, engine: Engine, close: Callable[[], None]) -> None:
        self.engine = engine
        self.loop: Loop | None = None
        self._drained: Loop | None = None
        self.is_told_of_shutdown = False
        self.is_stopping = False
        self._close = close
        self._handlers: set[DeferredHere] = set()
        self._idle: anyio.Event | None = None

    def running_loop(self) -> Loop:
        """Return the running event loop."""
        loop = running_loop(self.loop or self._drained)
        if loop is not self.loop and loop is not self._drained:
            self._begin_in(loop)
        self.loop = loop
        return loop

    def begin(self) -> None:
        """Begin anew in the running event loop: it may see one lifespan after another."""
        self._begin_in(self.running_loop())

    def _begin_in(self, loop: Loop) -> None:
        self.loop, self._drained = loop, None
        self.is_told_of_shutdown = self.is_stopping = False

    def adopt(self, handler: DeferredHere) -> None:
        """Keep a deferred handler alive: its server has forgotten it."""
        self._handlers.add(handler)
        handler.loop.attend()
        if not self.is_told_of_shutdown:
            self.is_told_of_shutdown = True
            drain_with_the_reactor(self.drain)

    def release(self, handler: DeferredHere) -> None:
        """Let go of a handler that is over; from any thread if its loop is."""
        if handler in self._handlers:
            self._handlers.discard(handler)
            handler.loop.call(handler.loop.dismiss)
        if handler.operation is not None:
            self.engine.land(handler.operation)
        if not self._handlers and self._idle is not None and self.loop is not None:
            self.loop.call(self._idle.set)

    async def drain(self) -> None:
        """Let running handlers end for a while, then record the rest as ended by the shutdown."""
        loop = self.running_loop()
        self.is_stopping = True
        self._close()
        with anyio.move_on_after(self.engine.settings.drain):
            await self._until_idle()
        left = list(self._handlers)
        for handler in left:
            await loop.record(handler.give_up, Reason.SHUTDOWN)
        if left:
            logger.warning("shutdown stopped %d operations that were still running", len(left))
            with anyio.move_on_after(LAST_WORDS):
                await self._until_idle()
            for handler in list(self._handlers):
                # Or a worker thread would wait for its task for ever, and the process for it.
                handler.loop.call(handler.abort)
            await anyio.lowlevel.checkpoint()
        await loop.record(self.engine.close)
        self.loop, self._drained = None, loop  # who comes later looks around anew

    async def _until_idle(self) -> None:
        while self._handlers:
            self._idle = anyio.Event()
            await self._idle.wait()
