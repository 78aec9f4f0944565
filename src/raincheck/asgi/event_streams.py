"""Clients that listen to an operation: each costs a task that sleeps, and no thread."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio

from raincheck.asgi.long_polls import until_gone
from raincheck.asgi.translation import send_start
from raincheck.monitor.events import HEARTBEAT, HEARTBEAT_SECONDS
from raincheck.monitor.feed import LONGEST_SECONDS, RETRY, Feed
from raincheck.monitor.listeners import Listening

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from raincheck.asgi.loops import Loop
    from raincheck.monitor.endpoint import StatusMonitor

logger = logging.getLogger("raincheck")


class EventStream:
    """One client that listens."""

    __slots__ = (
        *("_feed", "_is_due", "_is_gone", "_listening", "_loop"),
        *("_sending", "_timers", "_waiter", "_watcher"),
    )

    def __init__(self, loop: Loop, monitor: StatusMonitor, feed: Feed) -> None:
        self._loop = loop
        self._watcher = monitor.watcher
        self._feed = feed
        self._listening: Listening | None = None
        self._waiter: Any = None
        self._is_due = False  # a heartbeat
        self._is_gone = False
        self._sending: anyio.CancelScope | None = None

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all that there is to hear; it ends at once when the client leaves."""
        listener = self._loop.spawn(self._listen(receive))
        try:
            await send_start(scope, send, self._feed.head)
            async with aclosing(self.chunks()) as chunks:
                async for chunk in chunks:
                    await self._push(send, chunk, more=True)
            if not self._is_gone:
                await self._push(send, b"", more=False)
        finally:
            listener.cancel()

    async def _push(self, send: Send, chunk: bytes, *, more: bool) -> None:
        """Send something; nobody waits at the server's end for a client that does not read."""
        with anyio.CancelScope() as self._sending:
            await send({"type": "http.response.body", "body": chunk, "more_body": more})
        self._is_gone = self._is_gone or self._sending.cancelled_caught
        self._sending = None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield all that there is to hear."""
        feed = self._feed
        self._timers = self._loop.watch(self, HEARTBEAT_SECONDS)
        known, feed_id = feed.known, feed.operation_id
        try:
            with self._watcher.listening(feed_id, self._wake_from_anywhere, known) as listening:
                self._listening = listening
                yield feed.start
                end = time.monotonic() + LONGEST_SECONDS
                while not (feed.is_over or self._is_gone):
                    if chunk := await self._next(listening):
                        yield chunk
                    if time.monotonic() >= end and not feed.is_over:
                        yield feed.leave(RETRY)
        finally:
            self._timers.pop(self, None)

    async def _next(self, listening: Listening) -> bytes:
        """Wait until there is something to send, or nothing any more, and return it."""
        if not (listening.has_news or self._is_due or self._is_gone):
            self._waiter = self._loop.waiter()
            await self._waiter
            self._waiter = None
        if listening.has_news:
            seen = listening.take()
            if self._feed.must_ask(seen):
                return await self._loop.poll(self._feed.hear, seen)
            return self._feed.hear(seen)
        if self._is_due:
            self._is_due = False
            return HEARTBEAT
        return b""

    async def _listen(self, receive: Receive) -> None:
        await until_gone(receive, self._loop)
        self._is_gone = True
        self._wake()

    def budget_is_over(self) -> None:
        """Take note that the client has heard nothing for a while."""
        self._is_due = True
        self._timers = self._loop.watch(self, HEARTBEAT_SECONDS)
        self._wake()

    def _wake_from_anywhere(self) -> None:
        self._loop.call(self._wake_in_turn)

    def _wake_in_turn(self) -> None:
        self._wake()
        self._loop.soon(self._pass_on)

    def _pass_on(self) -> None:
        listening = self._listening
        if listening is None:
            return
        self._watcher.pass_on(listening)
        if listening.is_dismissed and self._sending is not None:
            self._sending.cancel()

    def _wake(self) -> None:
        if self._waiter is not None:
            self._loop.wake(self._waiter)
