"""Clients that wait for the end of an operation: each costs a task that sleeps, and no thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raincheck.polling import Answer, Poll, StatusMonitor

if TYPE_CHECKING:
    from starlette.types import Receive

    from raincheck.asgi.loops import Loop
    from raincheck.messages import Response

logger = logging.getLogger("raincheck")


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
        self._is_over = False

    async def outcome(self, poll: Poll, seconds: float) -> Response:
        """Wait for the end of an operation, so many seconds at most, and return what to say then.

        It ends at once when the client leaves; then nobody hears what is said.
        """
        listener = self._loop.spawn(self._listen(self._receive)) if self._receive else None
        timers = self._loop.watch(self, seconds)
        try:
            return await self._wait(lambda: self._monitor.look(poll, waited=seconds), poll)
        finally:
            timers.pop(self, None)
            if listener is not None:
                listener.cancel()

    async def _wait(self, look: Callable[[], Answer], poll: Poll) -> Response:
        with self._monitor.watcher.waiting(poll.operation_id, self._wake_from_anywhere) as waiter:
            while True:
                await self._pause()
                is_last = self._is_over or waiter.is_dismissed
                answer = await self._loop.poll(look)
                if is_last or not answer.wait:
                    return answer.response
                del answer  # thousands may wait, and each answer holds a document

    async def _listen(self, receive: Receive) -> None:
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        except Exception:  # a server's own way to say that nobody is there
            logger.debug("a waiting client is taken to be gone", exc_info=True)
        self._is_over = True
        self._wake()

    async def _pause(self) -> None:
        while not self._is_woken:
            self._waiter = self._loop.waiter()
            await self._waiter
        self._is_woken = False

    def budget_is_over(self) -> None:
        """Take note that the client waits no longer."""
        self._is_over = True
        self._wake()

    def _wake_from_anywhere(self) -> None:
        self._loop.call(self._wake)

    def _wake(self) -> None:
        self._is_woken = True
        if self._waiter is not None:
            self._loop.wake(self._waiter)
