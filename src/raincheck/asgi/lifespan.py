"""Start-up and shutdown: passed to the application, with a drain before it sees the shutdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raincheck.asgi.gateway import Gateway
from raincheck.asgi.lifespans import drain_with_the_server

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send


class _Messages:
    """What server and application say to each other in a lifespan."""

    def __init__(self, gateway: Gateway, receive: Receive, send: Send) -> None:
        self._gateway = gateway
        self._receive = receive
        self._send = send
        self.are_none = True
        self.told_of_shutdown = False

    async def receive(self) -> Message:
        self.are_none = False
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            self._gateway.engine.heartbeat.ensure()  # ends what an earlier process left behind
        elif message["type"] == "lifespan.shutdown":
            self.told_of_shutdown = True
            await self._gateway.running.drain()
        return message

    async def send(self, message: Message) -> None:
        self.are_none = False
        await self._send(message)


async def run_lifespan(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the application's lifespan, which looks to the server as it does without raincheck.

    While handlers drain, what the application opened at start-up is still open. One that raises has
    no lifespan or is broken: which of them, only the server is to say.
    """
    messages = _Messages(gateway, receive, send)
    running = gateway.running
    running.begin()
    running.is_told_of_shutdown = True
    gateway.surroundings.know(scope)
    gateway.engine.application.come_in_at("")  # what is mounted has no lifespan of its own
    try:
        await gateway.app(scope, messages.receive, messages.send)
    finally:
        if not messages.told_of_shutdown:
            running.is_told_of_shutdown = drain_with_the_server(running.drain, receive)
    if messages.are_none:
        gateway.engine.heartbeat.ensure()
        if not running.is_told_of_shutdown:  # or there would be no drain
            await _be_a_lifespan(gateway, messages.receive, send)


async def _be_a_lifespan(gateway: Gateway, receive: Receive, send: Send) -> None:
    """Stand in for an application that neither raises nor says anything."""
    gateway.running.is_told_of_shutdown = True
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
