"""Clients that wait for the end of an operation: each costs a task that sleeps, and no thread."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from raincheck.monitor.endpoint import StatusMonitor
from raincheck.monitor.poll import Poll

if TYPE_CHECKING:
    from starlette.types import Receive

    from raincheck.asgi.loops import Loop
    from raincheck.http.messages import Response

logger = logging.getLogger("raincheck")


MOST_MESSAGES = 64  # of a request that is over but for the disconnect
AT_ONCE_TURNS = 3  # of the event loop


async def until_gone(receive: Receive, loop: Loop) -> None:
    """Wait until a client leaves of which nothing more is to be read.

    Middleware that has read the body often gives it to whoever is inside again and again, or says
    at once that the client has left. Who speaks like that is not listened to: then a client that
    has left indeed is waited for as long as one that has not.
    """
    turns: list[None] = []
    loop.spawn(_count(turns))
    try:
        for _ in range(MOST_MESSAGES):
            if (await receive())["type"] == "http.disconnect":
                break
        else:
            await anyio.sleep_forever()
    except Exception:  # a server's own way to say that nobody is there
        logger.debug("a waiting client is taken to be gone", exc_info=True)
        return
    if len(turns) < AT_ONCE_TURNS:
        await anyio.sleep_forever()


async def _count(turns: list[None]) -> None:
    while len(turns) < AT_ONCE_TURNS:
        await anyio.lowlevel.checkpoint()
        turns.append(None)


class LongPoll:
    """One client that waits.

    Args:
        receive: The server's; None where this task is cancelled when the client leaves.
    """

    def __init__(self, loop: Loop, monitor: StatusMonitor, receive: Receive | None = None) -> None:
        self._loop = loop
        self._monitor = monitor
        self._receive = receive
        self._waiter: Any = None
        self._is_woken = False

    async def outcome(self, poll: Poll, seconds: float) -> Response:
        """Wait for the end of an operation, so many seconds at most, and return what to say then.

        It ends at once when the client leaves; then nobody hears what is said.
        """
        listener = self._loop.spawn(self._listen(self._receive)) if self._receive else None
        timers = self._loop.watch(self, seconds)
        watcher = self._monitor.watcher
        try:
            with watcher.waiting(poll.operation_id, self._wake_from_anywhere) as waiter:
                await self._pause()
                seen, answer = waiter.seen, None
                if seen is not None:
                    answer = self._monitor.glance(poll, seen, waited=seconds)
                if answer is None:
                    look = partial(self._monitor.look, poll, waited=seconds, seen=seen)
                    answer = await self._loop.poll(look)
                return answer.response
        finally:
            timers.pop(self, None)
            if listener is not None:
                listener.cancel()

    async def _listen(self, receive: Receive) -> None:
        await until_gone(receive, self._loop)
        self._wake()

    async def _pause(self) -> None:
        while not self._is_woken:
            self._waiter = self._loop.waiter()
            await self._waiter

    def budget_is_over(self) -> None:
        """Take note that the client waits no longer."""
        self._wake()

    def _wake_from_anywhere(self) -> None:
        self._loop.call(self._wake)

    def _wake(self) -> None:
        self._is_woken = True
        if self._waiter is not None:
            self._loop.wake(self._waiter)
