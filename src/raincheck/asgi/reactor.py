"""The shutdown of daphne, which has no lifespan: Twisted's reactor tells when it is to stop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any


def drain_with_the_reactor(drain: Callable[[], Awaitable[None]]) -> None:
    """Have Twisted's reactor, if it runs here, drain before it stops."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None or not reactor.running:
        return
    from twisted.internet.defer import Deferred

    def begin() -> Any:
        return Deferred.fromFuture(asyncio.ensure_future(drain()))

    reactor.addSystemEventTrigger("before", "shutdown", begin)
