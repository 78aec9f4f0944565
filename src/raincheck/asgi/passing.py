"""A response that is recorded, and goes to the client that waits for it as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raincheck.handler import outside

if TYPE_CHECKING:
    from starlette.types import Message, Send


class Passing:
    """Passes messages of an application on to the server, as long as somebody takes them.

    Attributes:
        has_begun: Whether the response's status has been passed on: then no 202 can be sent.
        is_complete: Whether all of the response has been.
    """

    def __init__(self, send: Send) -> None:
        self.has_begun = False
        self.is_complete = False
        self._send: Send | None = send

    @property
    def is_open(self) -> bool:
        """Whether the client takes what comes."""
        return self._send is not None

    def close(self) -> None:
        """Let go of the server's objects for this request: nobody takes what comes."""
        self._send = None

    async def pass_on(self, message: Message) -> None:
        """Send a message to the server; a client that has left ends nothing but this."""
        if self._send is None:
            return
        try:
            await outside(self._send, message)
        except OSError:  # ASGI 2.4: the client has closed the connection
            self.close()
