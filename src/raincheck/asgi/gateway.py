"""What all requests of one middleware share: application, core, and who is still running."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from raincheck.asgi.exchange import Exchange
from raincheck.asgi.lifespan import drain_with_the_reactor
from raincheck.asgi.long_polls import LongPoll
from raincheck.asgi.loops import Loop, running_loop
from raincheck.asgi.rerun import Replayer, Surroundings
from raincheck.asgi.translation import send_response, send_start, send_trailers, to_request
from raincheck.engine.engine import Raincheck
from raincheck.engine.start import owner_of, webhook_of
from raincheck.errors import BodyMissing, StoreError, is_passing
from raincheck.http.messages import Response, StoredBody
from raincheck.monitor.endpoint import Answer, Poll, StatusMonitor, unreadable
from raincheck.monitor.links import Resource, fill
from raincheck.operations.operation import Reason

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger("raincheck")

LAST_WORDS = 2.0  # seconds that shutdown gives handlers it has cancelled


class Gateway:
    """Holds no state of any request; those are exchanges.

    Args:
        middleware: The class of the middleware that this is for, as the application names it.

    Attributes:
        asks: Whether the application is to be asked about requests, which may block.
    """

    def __init__(self, app: ASGIApp, core: Raincheck, middleware: object = None) -> None:
        self.app = app
        self.middleware = middleware
        self.core = core
        self.monitor = StatusMonitor(core)
        self.asks = core.settings.owner is not None or callable(core.settings.webhook)
        self.is_told_of_shutdown = False
        self.is_stopping = False
        self.surroundings = Surroundings()
        core.recovery.replayer = Replayer(self)
        self._loop: Loop | None = None
        self._exchanges: set[Exchange] = set()
        self._idle: anyio.Event | None = None

    @property
    def known_loop(self) -> Loop | None:
        """The event loop that requests came in last; it may be closed."""
        return self._loop

    def running_loop(self) -> Loop:
        """Return the running event loop."""
        if (loop := running_loop(self._loop)) is not self._loop:
            self._loop = loop
        return loop

    def enter(self, scope: Scope) -> Loop:
        """Return the running event loop for a connection that comes in."""
        if (loop := running_loop(self._loop)) is not self._loop:
            self._loop = loop
            # Later may be too late: applications that are mounted change a scope in place.
            self.surroundings.know(scope)
            self.core.come_in_at(scope.get("root_path", ""))
        return loop

    def owner(self, scope: Scope) -> str | None:
        """Name the principal that a request belongs to; may block, so not for the loop."""
        return owner_of(self.core.settings, scope)

    def asking(self, scope: Scope) -> Callable[[], str | None] | None:
        """Return what asks for the owner; None if the request is not there to be asked about."""
        return partial(self.owner, scope)

    def webhook(self, scope: Scope) -> str | None:
        """Name the URL that is to be told of the end of a request's operation; as `owner`."""
        return webhook_of(self.core.settings, scope)

    def adopt(self, exchange: Exchange) -> None:
        """Keep a deferred exchange alive: its server has forgotten it."""
        self._exchanges.add(exchange)
        if not self.is_told_of_shutdown:
            self.is_told_of_shutdown = True
            drain_with_the_reactor(self)

    def release(self, exchange: Exchange) -> None:
        """Let go of an exchange whose application is over; from any thread if its loop is."""
        self._exchanges.discard(exchange)
        if exchange.operation is not None:
            self.core.land(exchange.operation)
        if not self._exchanges and self._idle is not None and self._loop is not None:
            self._loop.call(self._idle.set)

    async def show(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        operation_id: str,
        resource: Resource,
        template: str | None = None,
        root_path: str | None = None,
    ) -> None:
        """Answer a request to the status monitor."""
        self.core.come_in_at(scope.get("root_path", "") if root_path is None else root_path)

        def to_poll() -> Poll:
            return Poll(
                request=to_request(scope, scope["path"], scope.get("root_path", "")),
                operation_id=operation_id,
                resource=resource,
                owner=cache(partial(self.owner, scope)),
                path=fill(template, operation_id),
                root_path=root_path,
            )

        await self.send(scope, send, await self.answer(to_poll, receive))

    async def send(self, scope: Scope, send: Send, response: Response) -> None:
        """Send a response, wherever its body is."""
        if isinstance(response.body, StoredBody):
            await self._show_stored(scope, send, response, response.body)
        else:
            await send_response(scope, send, response)

    async def answer(self, to_poll: Callable[[], Poll], receive: Receive | None = None) -> Response:
        """Return the response to a poll, after waiting if that is what its client would rather do.

        Args:
            to_poll: Called in a thread.
            receive: The server's; None where this task is cancelled when the client leaves.
        """

        def look() -> tuple[Poll, Answer]:
            poll = to_poll()
            return poll, self.monitor.look(poll)

        loop = self.running_loop()
        try:
            poll, answer = await loop.poll(look)
        except RuntimeError as error:
            if not is_passing(error):
                raise
            return _unanswered(error)
        if not answer.wait:
            return answer.response
        seconds = answer.wait
        del answer  # or it would be held as long as the client waits
        return await self.wait(poll, seconds, receive)

    async def wait(self, poll: Poll, seconds: float, receive: Receive | None = None) -> Response:
        """Return the response to a poll whose client would rather wait so long."""
        return await LongPoll(self.running_loop(), self.monitor, receive).outcome(poll, seconds)

    async def _show_stored(
        self, scope: Scope, send: Send, response: Response, body: StoredBody
    ) -> None:
        loop = self.running_loop()
        chunks = self.monitor.read(body)
        try:
            # Before the status is sent: a body that has just been purged is no 200.
            chunk = await loop.read(next, chunks, b"")
        except (StoreError, RuntimeError) as error:
            if not (isinstance(error, StoreError) or is_passing(error)):
                raise
            await send_response(scope, send, _unanswered(error))
            return
        with_trailers = await send_start(scope, send, response)
        rest = body.stop - body.start - len(chunk)
        while rest:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await loop.read(next, chunks, b"")
            if not chunk:
                raise BodyMissing(body.operation_id, body.fence)
            rest -= len(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": False})
        if with_trailers:
            await send_trailers(send, response)

    async def drain(self) -> None:
        """Let running handlers end for a while, then record the rest as ended by the shutdown."""
        self.is_stopping = True
        self.monitor.close()
        with anyio.move_on_after(self.core.settings.drain):
            await self._until_idle()
        left = list(self._exchanges)
        for exchange in left:
            await self.running_loop().record(exchange.give_up, Reason.SHUTDOWN)
        if left:
            logger.warning("shutdown stopped %d operations that were still running", len(left))
            with anyio.move_on_after(LAST_WORDS):
                await self._until_idle()
            for exchange in list(self._exchanges):
                # Or a worker thread would wait for its task for ever, and the process for it.
                exchange.loop.call(exchange.abort)
            await anyio.lowlevel.checkpoint()
        await self.running_loop().record(self.core.close)

    async def _until_idle(self) -> None:
        while self._exchanges:
            self._idle = anyio.Event()
            await self._idle.wait()


def _unanswered(error: Exception) -> Response:
    logger.error("a poll could not be answered: %s", error)
    return unreadable(error)
