"""What stands where an exchange expects a server: the middleware around, in an async chain.

A response of the chain is turned into messages only where it is recorded, and handed on as it is
otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from raincheck.django.bodies import Body
from raincheck.django.contexts import Carried
from raincheck.django.keeping import Kept, keep_for_handler
from raincheck.django.loan import Loan, thread_around
from raincheck.django.relay import Relay
from raincheck.django.translation import from_response, is_file, to_response
from raincheck.engine.engine import CHUNK_SIZE
from raincheck.errors import OperationCancelled
from raincheck.http.messages import Response

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from starlette.types import Message, Send

AS_IT_IS = "raincheck.response"  # in the message that begins a response


class Conversation:
    """Stands where an exchange expects a server."""

    def __init__(self, request: HttpRequest, body: Body) -> None:
        self.request = request
        self.body = body
        self.loan = Loan(thread_around())
        self._response: HttpResponseBase | None = None
        self._accepted: Response | None = None
        self._kept: Kept | None = None
        self._is_over = False
        self.carried: Carried | None = None
        self._relay: Relay | None = None
        self._content: AsyncIterator[bytes] | None = None
        self._closers: list[Callable[[], None]] = []

    async def receive(self) -> Message:
        """Fail: Django has read the request, and looks for a disconnect itself."""
        raise AssertionError("there is nothing to receive")

    async def send(self, message: Message) -> None:
        """Take the chain's response as it is, or the messages of raincheck's 202."""
        if AS_IT_IS in message:
            self._response = message[AS_IT_IS]
        elif self._relay is not None:
            await self._relay.put(message["body"])
        elif message["type"] == "http.response.start":
            self._accepted = Response(message["status"], tuple(message["headers"]))
        elif self._accepted is not None:
            status, headers = self._accepted.status, self._accepted.headers
            self._response = to_response(Response(status, headers, message["body"]))

    def answer(self, response: HttpResponseBase) -> None:
        """Take what the middleware around is to get."""
        self._response = response

    def outcome(self) -> HttpResponseBase:
        """Return what the middleware around is to get."""
        if self._response is None:
            raise RuntimeError("neither the chain nor raincheck has answered")
        if self._accepted is None and self.carried is not None:
            self.carried.unpack()
        return self._response

    async def hand_over(self, response: HttpResponseBase, send: Send) -> bool:
        """Send the chain's response on: as it is, or piece by piece to where it is recorded.

        Returns:
            Whether as it is.
        """
        status, headers = from_response(response)
        start = {"type": "http.response.start", "status": status, "headers": list(headers)}
        await send(start | {AS_IT_IS: response})
        if self._relay is None and self._response is response:
            return True
        error: BaseException | None = OperationCancelled("its response was not completed")
        try:
            async for chunk in self._content or _chunks(response):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            error = None
        except Exception as raised:
            error = raised
            raise
        finally:
            await self._close(response, error)
            del error  # its traceback refers to this frame
        return False

    def relay(
        self,
        response: Any,
        call: Callable[[Callable[[], None]], None],
        left: Callable[[], None],
    ) -> None:
        """Have an async stream handed on while it is recorded.

        Args:
            call: Calls a function in the loop's thread.
            left: Called there when nobody takes it any more.
        """
        relay = self._relay = Relay(left)
        self._content = aiter(response.streaming_content)
        # What was opened for the stream is closed where it was opened.
        self._closers, response._resource_closers[:] = list(response._resource_closers), []
        response.streaming_content = relay.content()
        response._resource_closers.append(partial(call, relay.close))

    async def _close(self, response: Any, error: BaseException | None) -> None:
        """Close what a response that was recorded has left open; who relays it closes the rest."""
        if self._relay is None:
            await sync_to_async(response.close)()  # sends `request_finished`
            return
        self._relay.end(error)
        for close in self._closers:
            with suppress(Exception):  # as Django does
                await sync_to_async(close)()

    def keep(self) -> None:
        """Keep what the chain needs, although it may answer to the store."""
        if self._kept is None and not self._is_over:
            self._kept = keep_for_handler(self.request)

    def let_go(self) -> None:
        """Leave that to Django, after all: the chain answers to the server."""
        if self._kept is not None:
            self._kept.let_go()
            self._kept = None

    def end(self) -> None:
        """Take note that the chain is over."""
        self._is_over = True
        if self._kept is not None:
            self._kept.close()


async def _chunks(response: Any) -> AsyncIterator[bytes]:
    if not response.streaming:
        yield response.content
    elif response.is_async:
        async for chunk in response.streaming_content:
            yield chunk
    else:
        content = iter(response.streaming_content)
        # A file comes in small pieces, and a way into a thread costs more than to read one.
        size = CHUNK_SIZE if is_file(response) else 1
        following = sync_to_async(lambda: _next(content, size))
        while (chunk := await following()) is not None:
            yield chunk


def _next(content: Iterator[bytes], size: int) -> bytes | None:
    """Return the next chunk, or as many as it takes to have that many bytes; None at the end."""
    gathered = bytearray()
    for chunk in content:
        gathered += chunk
        if len(gathered) >= size:
            break
    return bytes(gathered) if gathered else None
