"""How a deferred handler is stopped, and how it is known that it has.

Some frameworks heed a disconnect only, others a cancellation only, so it gets first the one and
then the other. A sync handler heeds neither: whoever waits for its thread can be cancelled, but
the work goes on, and to call it cancelled would be a lie. So its end is waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from raincheck.asgi.loops import Loop, Task

GRACE = 0.5  # seconds between the disconnect that a handler may see and its cancellation
STEPS = 10  # of it: a loop that stands still misses one
_COUNTING = threading.Lock()


class HandlerEnd:
    """The end of one handler; made when it is deferred or its marked function is called."""

    def __init__(self, loop: Loop) -> None:
        self.is_requested = False
        self._loop = loop
        self._may_disconnect = False
        # Events are made in the loop: this object is often made in a handler's thread.
        self._disconnect: anyio.Event | None = None
        self._outside: anyio.Event | None = None
        self._inside = 0
        self._is_given_up = False

    async def wait_for_disconnect(self) -> None:
        """Wait until the handler may see a disconnect."""
        while not self._may_disconnect:
            self._disconnect = self._disconnect or anyio.Event()
            await self._disconnect.wait()

    def disconnect(self) -> None:
        """Let the handler see a disconnect."""
        self._may_disconnect = True
        if self._disconnect is not None:
            self._disconnect.set()

    async def carry_out(self, task: Callable[[], Task], is_over: Callable[[], bool]) -> None:
        """Stop the handler that runs in `task`: let it see a disconnect, later cancel it."""
        await self.until_outside()
        self.disconnect()
        for _ in range(STEPS):
            await anyio.sleep(GRACE / STEPS)
        await self.until_outside()
        if not is_over():
            await self._loop.cancel(task(), is_over)

    def enter(self) -> None:
        """Take note that a sync handler begins, in its thread."""
        with _COUNTING:
            self._inside += 1

    def leave(self) -> None:
        """Take note that a sync handler has ended, in its thread."""
        with _COUNTING:
            self._inside -= 1
        if self._outside is not None and not self._inside:
            self._loop.call(self._outside.set)

    def give_up(self) -> None:
        """Let nobody wait any longer: the process is about to end."""
        self._is_given_up = True
        if self._outside is not None:
            self._outside.set()

    async def until_outside(self) -> None:
        """Wait until no sync handler runs; not interrupted by a cancellation."""
        while self._inside and not self._is_given_up:
            if self._outside is None or self._outside.is_set():
                self._outside = anyio.Event()
            if self._inside:  # it may have left before it could see the event
                with anyio.CancelScope(shield=True):
                    await self._outside.wait()
