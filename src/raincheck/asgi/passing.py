"""A response that is recorded, and goes to the client that waits for it as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Message, Send


class Passing:
    """Passes messages of an application on to the server, as long as somebody takes them.

    Attributes:
        has_begun: Whether the response's status has been passed on: then no 202 can be sent.
        is_complete: Whether all of the response has been.
        is_open: Whether the client takes what comes.
    """

    def __init__(self, send: Send) -> None:
        self.has_begun = False
        self.is_complete = False
        self.is_open = True
        self._send = send

    async def pass_on(self, message: Message) -> None:
        """Send a message to the server; a client that has left ends nothing but this."""
        if not self.is_open:
            return
        try:
            await self._send(message)
        except OSError:  # ASGI 2.4: the client has closed the connection
            self.is_open = False
