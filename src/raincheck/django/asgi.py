"""One request in a project's async middleware chain that may be deferred.

It is an exchange of the ASGI gateway whose application is the rest of the chain: a response is
turned into messages only where it is recorded, and handed on as it is otherwise.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from asgiref.sync import AsyncToSync, sync_to_async
from django.core.cache import caches
from django.core.handlers.asgi import ASGIHandler

from raincheck.asgi.accepted_first import AcceptedFirst
from raincheck.asgi.capture import Capture
from raincheck.asgi.exchange import Exchange
from raincheck.asgi.gateway import Gateway
from raincheck.asgi.rerun import Rerun
from raincheck.asgi.status import Status
from raincheck.asgi.surroundings import Surroundings
from raincheck.config.policy import Candidate
from raincheck.django.bodies import Body, take_body
from raincheck.django.conf import is_known
from raincheck.django.contexts import Carried, forget_caches, told_in_transaction
from raincheck.django.conversation import AS_IT_IS, Conversation
from raincheck.django.handler_thread import HandlerThread
from raincheck.django.lending import release_pooled
from raincheck.django.sessions import leave_alone, save_before
from raincheck.django.streaming import begin_in_loop
from raincheck.django.translation import is_file, to_request
from raincheck.engine.engine import Engine
from raincheck.engine.idempotency import Sharing
from raincheck.engine.refusals import is_accepted_first
from raincheck.handler import REQUEST
from raincheck.http.messages import Headers, Response
from raincheck.monitor.endpoint import StatusMonitor
from raincheck.monitor.poll import Poll
from raincheck.operations.operation import Operation
from raincheck.wsgi import leaving

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CONVERSATION = "raincheck.django"  # in an exchange's scope


class _Exchange(Exchange):
    body_is_complete = True  # Django has read it

    @property
    def _conversation(self) -> Conversation:
        conversation: Conversation = self.scope[_CONVERSATION]
        return conversation

    @property
    def is_authenticated(self) -> bool:
        """Whether its user is known: what is around has authenticated it."""
        return is_known(self.gateway.engine.settings, self._conversation.request)

    def body(self) -> Any:
        """Return the whole body, of which the handler may have read some; None if it is gone."""
        return self._conversation.body.pieces()

    async def _accept(self) -> None:
        # Before there is an operation: Django closes what a handler needs when the client leaves.
        self._conversation.keep()
        await super()._accept()

    async def _record(self) -> None:
        await super()._record()
        if self.operation is None:
            self._conversation.let_go()

    async def _attach(self, operation: Operation) -> None:
        await super()._attach(operation)
        self._conversation.loan.keep()


class _AcceptedFirst(_Exchange, AcceptedFirst):
    async def _listen(self, receive: Receive) -> None:
        """Do nothing: Django listens, and cancels whoever waits."""

    async def _record_message(self, capture: Capture, message: Message) -> None:
        response, passing = message.get(AS_IT_IS), self._passing
        if response is not None and passing is not None:
            # Django itself gathers what comes from a sync iterator before it sends any of it.
            if not (response.streaming and response.is_async):
                passing.close()
            elif passing.is_open and not self._is_due:
                self._conversation.relay(response, self.loop.call, self._client_left)
        await super()._record_message(capture, message)

    async def _answer(self, operation: Operation, first: Headers | None = None) -> None:
        request = self._conversation.request
        if self.operation is None:  # it waits for another one
            await sync_to_async(save_before)(request)
            await sync_to_async(release_pooled)()
        await super()._answer(operation, first)
        if self.operation is None:
            leave_alone(request, self._conversation.outcome())

    @property
    def _is_decided(self) -> bool:
        return self._has_begun or super()._is_decided  # Django sends the rest when it has this

    def _leave_alone(self) -> None:
        if not self._has_begun:
            super()._leave_alone()

    def _client_left(self) -> None:
        super()._leave_alone()


class _Project(Surroundings):
    """A chain of its own for what is run again: what is around raincheck's middleware, first."""

    @cached_property
    def _handler(self) -> ASGIHandler:
        # Not at construction: it makes a middleware of this kind, too.
        return ASGIHandler()

    def outermost(self) -> ASGIApp:
        """Return where requests come in."""
        handler: ASGIApp = self._handler
        return handler


class _Status(Status):
    """Answers as Django has it.

    Args:
        to_http: Makes Django's response of raincheck's; may block.
    """

    def __init__(
        self,
        gateway: Gateway,
        to_http: Callable[[HttpRequest, Response], HttpResponseBase],
    ) -> None:
        super().__init__(gateway.monitor, gateway.owner, gateway.running.running_loop)
        self._to_http = to_http

    async def answer(self, to_poll: Callable[[], Poll], receive: object = None) -> Response:
        """Return the response to a poll; Django looks for a disconnect itself."""
        return await super().answer(to_poll)

    async def send(self, scope: Scope, send: Send, response: Response) -> None:
        """Hand a response over, wherever its body is."""
        conversation: Conversation = scope[_CONVERSATION]
        to_http = sync_to_async(self._to_http)
        conversation.answer(await to_http(conversation.request, response))


class AsyncGateway(Gateway):
    """Runs the rest of an async chain.

    Args:
        get_response: The rest of the chain.
        to_http: Makes Django's response of raincheck's; may block.
        monitor: The status monitor, which a sync chain would use as well.
        handle: The rest of the chain as it is called for a request that may be deferred.
    """

    def __init__(
        self,
        get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
        engine: Engine,
        to_http: Callable[[HttpRequest, Response], HttpResponseBase],
        monitor: StatusMonitor,
        handle: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
    ) -> None:
        super().__init__(self._respond, engine, monitor=monitor)
        self.asks = True  # of what it asks, nothing is for the loop
        self.surroundings = _Project(self._respond)
        self.status = _Status(self, to_http)
        self._get_response = get_response
        self._handle = handle
        _GATEWAYS.add(self)

    def owner(self, scope: Scope) -> str | None:
        """Name the principal that a request belongs to; in a thread of the event loop's."""
        conversation: Conversation = scope[_CONVERSATION]
        with conversation.loan.asking():
            return super().owner(conversation.request)

    def is_askable(self, scope: Scope) -> bool:
        """Tell whether the request has come here: what is around may answer a re-run itself."""
        return _CONVERSATION in scope

    def webhook(self, scope: Scope) -> str | None:
        """Name the URL that is to be told of the end of a request's operation; as `owner`."""
        conversation: Conversation = scope[_CONVERSATION]
        with conversation.loan.asking():
            return super().webhook(conversation.request)

    async def serve(
        self,
        request: HttpRequest,
        candidate: Candidate,
        sharing: Sharing | None,
        template: str | None,
    ) -> HttpResponseBase:
        """Return the response to a request, or a 202."""
        if getattr(AsyncToSync.executors, "current", None) and await _is_in_transaction():
            return await self._get_response(request)
        self.engine.heartbeat.ensure(soon=False)  # what others have left may be run again here
        conversation = Conversation(request, self._take_body(request))
        scope = self._scope(conversation)
        given = (self, scope, conversation.receive, conversation.send, candidate, template)
        is_first = is_accepted_first(candidate, sharing)
        exchange = _AcceptedFirst(*given, sharing=sharing) if is_first else _Exchange(*given)
        request.META[REQUEST] = exchange.sign
        await exchange.serve()
        return conversation.outcome()

    async def let_in(self, rerun: Rerun, request: HttpRequest) -> HttpResponseBase:
        """Go on with a request that is run again, where it comes to raincheck's middleware."""
        conversation = Conversation(request, self._take_body(request))
        scope = self._scope(conversation)
        conversation.keep()
        conversation.loan.keep()
        rerun.body_is_complete = True  # Django has read it
        await rerun.come_in(scope, conversation.receive, conversation.send)
        return conversation.outcome()

    def _take_body(self, request: HttpRequest) -> Body:
        return take_body(request, self.engine.limits.request_body, self.engine.admission.spooled)

    def _scope(self, conversation: Conversation) -> Scope:
        request = conversation.request
        described = to_request(request)
        scope: Scope = request.scope | {
            "scheme": described.scheme,
            "path": described.path,
            "root_path": described.root_path,
            "query_string": described.query,
            "headers": list(described.headers),
            _CONVERSATION: conversation,
        }
        return scope

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be the application of an exchange."""
        conversation: Conversation = scope[_CONVERSATION]
        thread = HandlerThread(conversation.loan)
        forget_caches()
        try:
            with thread.entered():
                response = await self._handle(conversation.request)
                await begin_in_loop(response)
            conversation.carried = Carried()
            with thread.entered():
                is_passed_on = await conversation.hand_over(response, send)
            if is_passed_on and response.streaming and not is_file(response):
                thread.keep_for(response)
        finally:
            conversation.end()
            caches.close_all()
            await thread.end()


@sync_to_async
def _is_in_transaction() -> bool:
    return told_in_transaction()


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
            await gateway.running.drain()
        await anyio.to_thread.run_sync(leaving.drain)  # of a sync chain
        await send({"type": "lifespan.shutdown.complete"})

    return drained
