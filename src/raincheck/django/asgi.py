"""One request in a project's async middleware chain that may be deferred.

It is an exchange of the ASGI gateway whose application is the rest of the chain: a response is
turned into messages only where it is recorded, and handed on as it is otherwise.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from asgiref.sync import AsyncToSync, sync_to_async
from django.core.cache import caches
from django.db import connections

from raincheck.asgi.exchange import Exchange
from raincheck.asgi.gateway import Gateway
from raincheck.core import CHUNK_SIZE, Raincheck
from raincheck.django.contexts import Luggage, forget_caches, in_transaction
from raincheck.django.handler_thread import HandlerThread
from raincheck.django.keeping import Kept, keep_for_handler
from raincheck.django.translation import from_response, is_file, to_request, to_response
from raincheck.messages import Response
from raincheck.policy import Candidate, Refusal
from raincheck.polling import may_begin, refuse
from raincheck.wsgi import leaving

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CONVERSATION = "raincheck.django"  # in an exchange's scope
_AS_IT_IS = "raincheck.response"  # in the message that begins a response


class AsyncGateway(Gateway):
    """Runs the rest of an async chain.

    Args:
        get_response: The rest of the chain.
    """

    def __init__(
        self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]], core: Raincheck
    ) -> None:
        super().__init__(self._respond, core)
        self._get_response = get_response
        _GATEWAYS.add(self)

    def owner(self, scope: Scope) -> str | None:
        """Name the principal that a request belongs to; in a thread of the event loop's."""
        try:
            return super().owner(scope[_CONVERSATION].request)
        finally:
            connections.close_all()  # that finding the user has opened here

    async def serve(
        self, request: HttpRequest, decision: Candidate | Refusal, template: str | None
    ) -> HttpResponseBase:
        """Return the response to a request, or a 202."""
        if not may_begin(decision, self.core):
            return to_response(refuse(decision, self.core))
        if getattr(AsyncToSync.executors, "current", None) and await _is_in_transaction():
            return await self._get_response(request)
        conversation = Conversation(request)
        described = to_request(request)
        scope = request.scope | {
            "scheme": described.scheme,
            "path": described.path,
            "root_path": described.root_path,
            "headers": list(described.headers),
            _CONVERSATION: conversation,
        }
        receive, send = conversation.receive, conversation.send
        exchange = Exchange(self, scope, receive, send, decision, template)
        exchange.body_is_complete = True  # Django has read it
        await exchange.serve()
        return conversation.outcome()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be the application of an exchange."""
        conversation: Conversation = scope[_CONVERSATION]
        thread = HandlerThread()
        forget_caches()
        try:
            with thread.entered():
                response = await self._get_response(conversation.request)
                is_passed_on = await conversation.hand_over(response, send)
            conversation.luggage = Luggage()
            if is_passed_on and response.streaming and not is_file(response):
                thread.keep_for(response)
        finally:
            conversation.end()
            caches.close_all()
            await thread.end()


class Conversation:
    """Stands where an exchange expects a server."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self._response: HttpResponseBase | None = None
        self._accepted: Response | None = None
        self._kept: Kept | None = None
        self._is_over = False
        self.luggage: Luggage | None = None

    async def receive(self) -> Message:
        """Fail: Django has read the request, and looks for a disconnect itself."""
        raise AssertionError("there is nothing to receive")

    async def send(self, message: Message) -> None:
        """Take the chain's response as it is, or the messages of raincheck's 202."""
        if _AS_IT_IS in message:
            self._response = message[_AS_IT_IS]
        elif message["type"] == "http.response.start":
            self._accepted = Response(message["status"], tuple(message["headers"]))
            if not self._is_over:
                self._kept = keep_for_handler(self.request)
        elif self._accepted is not None:
            status, headers = self._accepted.status, self._accepted.headers
            self._response = to_response(Response(status, headers, message["body"]))

    def outcome(self) -> HttpResponseBase:
        """Return what the middleware around is to get."""
        if self._response is None:
            raise RuntimeError("neither the chain nor raincheck has answered")
        if self._accepted is None and self.luggage is not None:
            self.luggage.unpack()
        return self._response

    async def hand_over(self, response: HttpResponseBase, send: Send) -> bool:
        """Send the chain's response on: as it is, or piece by piece to where it is recorded.

        Returns:
            Whether as it is.
        """
        status, headers = from_response(response)
        start = {"type": "http.response.start", "status": status, "headers": list(headers)}
        await send(start | {_AS_IT_IS: response})
        if self._response is response:
            return True
        try:
            async for chunk in _chunks(response):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await sync_to_async(response.close)()  # sends `request_finished`
        return False

    def end(self) -> None:
        """Take note that the chain is over."""
        self._is_over = True
        if self._kept is not None:
            self._kept.close()


@sync_to_async
def _is_in_transaction() -> bool:
    return in_transaction()


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


_GATEWAYS: weakref.WeakSet[AsyncGateway] = weakref.WeakSet()


def with_drain(application: ASGIApp) -> ASGIApp:
    """Have the shutdown of an ASGI server wait for running handlers, at most `DRAIN` seconds.

    For `asgi.py`: `application = with_drain(get_asgi_application())`. Django itself is not told of
    the shutdown; without this, it ends what still runs. WSGI servers need nothing.
    """

    async def drained(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await application(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for gateway in list(_GATEWAYS):
            await gateway.drain()
        await anyio.to_thread.run_sync(leaving.drain)  # of a sync chain
        await send({"type": "lifespan.shutdown.complete"})

    return drained
