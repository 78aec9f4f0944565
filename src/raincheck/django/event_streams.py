"""Clients that listen to an operation where Django runs in an event loop, whatever its chain is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from raincheck.asgi.event_streams import EventStream
from raincheck.asgi.loops import Loop, running_loop
from raincheck.monitor.endpoint import StatusMonitor
from raincheck.monitor.feed import Feed


class EventStreams:
    """Those of one middleware."""

    def __init__(self, monitor: StatusMonitor) -> None:
        self._monitor = monitor
        self._loop: Loop | None = None

    async def chunks(self, feed: Feed) -> AsyncIterator[bytes]:
        """Yield what one client hears; Django closes this when the client leaves."""
        loop = self._loop = running_loop(self._loop)
        async with aclosing(EventStream(loop, self._monitor, feed).chunks()) as chunks:
            async for chunk in chunks:
                yield chunk
