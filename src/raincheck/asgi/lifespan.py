"""Start-up and shutdown: passed to the application, with a drain before it sees the shutdown."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from raincheck.asgi.gateway import Gateway


def drain_with_the_reactor(gateway: Gateway) -> None:
    """Drain under daphne, which has no lifespan: Twisted's reactor tells when it is to stop."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None or not reactor.running:
        return
    from twisted.internet.defer import Deferred

    def drain() -> Any:
        return Deferred.fromFuture(asyncio.ensure_future(gateway.drain()))

    reactor.addSystemEventTrigger("before", "shutdown", drain)


async def run_lifespan(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the application's lifespan, or one of our own if it has none.

    While handlers drain, what the application opened at start-up is still open.
    """
    is_used = False
    gateway.is_told_of_shutdown = True
    gateway.running_loop()

    async def receive_for_application() -> Message:
        nonlocal is_used
        is_used = True
        return await _receive(gateway, receive)

    gateway.surroundings.know(scope)
    gateway.core.come_in_at("")  # what is mounted has no lifespan of its own
    try:
        await gateway.app(scope, receive_for_application, send)
    except Exception:
        if is_used:
            raise
    if not is_used:  # Django and others: servers would skip the shutdown, and with it the drain
        await _receive(gateway, receive)
        await send({"type": "lifespan.startup.complete"})
        await _receive(gateway, receive)
        await send({"type": "lifespan.shutdown.complete"})


async def _receive(gateway: Gateway, receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "lifespan.startup":
        gateway.core.heartbeat.ensure()  # ends what an earlier process left behind
    elif message["type"] == "lifespan.shutdown":
        await gateway.drain()
    return message
