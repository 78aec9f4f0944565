"""Running a captured request again: through the application, without a server.

The request goes in where requests came in: at the outermost application that is known. When it
comes to the middleware, it is answered 202 there as the first one was, and the rest goes on.
That it is a replay says an object in the task's context, which no client can put there.
"""

from __future__ import annotations

import logging
from typing import IO, TYPE_CHECKING, Any

from raincheck.asgi.capture import Capture
from raincheck.asgi.exchange import Exchange
from raincheck.asgi.loops import Loop
from raincheck.asgi.stored_upload import StoredUpload
from raincheck.asgi.translation import to_scope
from raincheck.marking import CURRENT
from raincheck.messages import Request
from raincheck.operation import Operation
from raincheck.policy import Candidate

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from raincheck.asgi.gateway import Gateway

logger = logging.getLogger("raincheck")


class Surroundings:
    """What servers and applications put into every scope, and a captured request has not."""

    def __init__(self) -> None:
        self._app: Any = None
        self._state: dict[str, Any] | None = None

    def know(self, scope: Scope) -> None:
        """Learn from a scope of this process."""
        self._app = scope.get("app", self._app)
        if scope["type"] == "lifespan":  # that of a request holds what belongs to it, too
            self._state = scope.get("state")

    def add_to(self, scope: Scope) -> None:
        """Put what is known into a scope."""
        if self._app is not None:
            scope["app"] = self._app
        if self._state is not None:
            scope["state"] = self._state.copy()  # as servers do: what lifespan has made

    def outermost(self, gateway: Gateway) -> ASGIApp:
        """Return the application in whose stack the middleware is, or else what it wraps."""
        stack = getattr(self._app, "user_middleware", ())  # Starlette's and FastAPI's
        inside = any(getattr(one, "cls", None) is gateway.middleware for one in stack)
        return self._app if inside else gateway.app


class Replayer:
    """Runs captured requests in the event loop of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @property
    def is_ready(self) -> bool:
        """Whether the event loop is known and goes on."""
        loop = self._gateway.known_loop
        return loop is not None and loop.is_alive and not self._gateway.is_stopping

    def replay(self, operation: Operation, request: Request, body: IO[bytes]) -> Replay:
        """Begin to run a request; from any thread.

        Raises:
            RuntimeError: The loop has ended.
        """
        loop = self._gateway.known_loop
        if loop is None or not self.is_ready:
            raise RuntimeError("the event loop has ended")
        run = Replay(self._gateway, loop, operation, request, body)
        loop.call(run.begin)
        return run


class Replay(Exchange):
    """A request that is run again; nobody waits for its response but the store."""

    is_replay = True

    def __init__(
        self,
        gateway: Gateway,
        loop: Loop,
        operation: Operation,
        request: Request,
        body: IO[bytes],
    ) -> None:
        scope = to_scope(request)
        gateway.surroundings.add_to(scope)
        super().__init__(gateway, scope, _nothing, _nowhere, Candidate(None), loop=loop)
        self.operation = operation
        self.capture = Capture(gateway.core, operation, loop)
        self.body_is_complete = True
        self.upload = StoredUpload(body)
        self._is_inside = False
        self._is_entered = False

    def begin(self) -> None:
        """Begin, in the loop's thread."""
        self.gateway.adopt(self)
        self.task = self.loop.spawn(self._replay())

    async def _replay(self) -> None:
        """Call the outermost application; what comes of it there is what a client would get."""
        CURRENT.set(self)
        error: BaseException | None = None
        try:
            outermost = self.gateway.surroundings.outermost(self.gateway)
            if outermost is self.gateway.app:
                self._is_entered = True
            await outermost(self.scope, self.receive, self._send_outside)
        except BaseException as raised:
            error = raised
        if not self._is_inside:
            self.error, self.over = error, True
            await self._conclude()
        elif isinstance(error, Exception):
            logger.error("what is around %r raised", self.path, exc_info=error)

    async def come_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go on at the middleware: as after a 202, of which nobody hears."""
        self._is_inside = self._is_entered = True
        self.scope = scope
        self.server_receive = receive
        self.task = self.loop.spawn(self._run())
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def is_for(self, gateway: Gateway) -> bool:
        """Tell whether it has come to where it came in first."""
        return gateway is self.gateway and not self._is_entered

    async def _send_outside(self, message: Message) -> None:
        if not self._is_inside:
            await self.send(message)


async def _nothing() -> Message:
    raise AssertionError("there is no server to receive from")


async def _nowhere(message: Message) -> None:
    raise AssertionError("there is no server to send to")
