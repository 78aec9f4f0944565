"""Clients that listen to an operation: each keeps a thread of the server, as a long poll does.

So as many may listen as may wait. Where others need the thread, the stream ends, and its client is
told to come again.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from raincheck.monitor.events import HEARTBEAT
from raincheck.monitor.feed import LONGEST_SECONDS, RETRY, Feed
from raincheck.monitor.waiters import Watcher
from raincheck.wsgi.translation import send_start
from raincheck.wsgi.waiting import Turn

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


# Only who writes to a client hears that it has left, and then keeps a thread no longer.
HEARTBEAT_SECONDS = 5.0


class EventStream:
    """One client that listens: what its server iterates over, and closes in any case.

    Args:
        turn: Of the thread; it is over when this is closed.
        woken: Is set when the thread is to let go.

    Attributes:
        head: Status and header fields.
    """

    def __init__(self, watcher: Watcher, feed: Feed, turn: Turn, woken: threading.Event) -> None:
        self.head = feed.head
        self._feed = feed
        self._turn = turn
        self._woken = woken
        self._stack = ExitStack()
        # Whoever is around may lose it without closing it; its turn would never be over.
        weakref.finalize(self, self._stack.close).atexit = False
        # Not in the generator: one that was never begun ends nothing.
        self._stack.enter_context(turn)
        context = watcher.listening(feed.operation_id, woken.set, feed.known, takes_turns=False)
        self._listening = self._stack.enter_context(context)
        self._chunks = self._hear()

    def begun(self, start_response: StartResponse) -> EventStream:
        """Send status and header fields; return what to return to the server."""
        send_start(start_response, self.head)
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Take note that the client has left, or has heard all."""
        self._stack.close()

    def _hear(self) -> Iterator[bytes]:
        feed, listening = self._feed, self._listening
        yield feed.start
        due = time.monotonic() + HEARTBEAT_SECONDS
        end = time.monotonic() + LONGEST_SECONDS
        while not feed.is_over:
            self._woken.wait(max(0.0, due - time.monotonic()))
            self._woken.clear()  # first: what comes now would be missed
            chunk = b""
            if listening.has_news:
                chunk = feed.hear(listening.take())
            elif self._turn.is_called:
                chunk = feed.leave()
            elif time.monotonic() >= end:
                chunk = feed.leave(RETRY)
            elif time.monotonic() >= due:
                chunk = HEARTBEAT
            if chunk:
                due = time.monotonic() + HEARTBEAT_SECONDS
                yield chunk
