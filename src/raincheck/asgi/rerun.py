"""Running a captured request again: through the application, without a server.

The request goes in where requests came in: at the outermost application that is known. When it
comes to the middleware, it is answered 202 there as the first one was, and the rest goes on.
That it is a re-run says an object in the task's context, and another one in the scope that it is
this very request: what is around may send requests of its own. No client can put either there.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import IO, TYPE_CHECKING

from raincheck.asgi.exchange import Exchange
from raincheck.asgi.gateway import Gateway
from raincheck.asgi.loops import Loop
from raincheck.asgi.stored_upload import StoredUpload
from raincheck.asgi.translation import to_scope
from raincheck.asgi.upload import Upload
from raincheck.config.policy import Candidate
from raincheck.handler import CURRENT, REQUEST
from raincheck.http.messages import Request
from raincheck.http.spool import Spooled
from raincheck.operations.operation import Operation

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send


logger = logging.getLogger("raincheck")


class Rerunner:
    """Runs captured requests in the event loop of one gateway."""

    needs_loop = True

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @property
    def is_ready(self) -> bool:
        """Whether the event loop is known and goes on."""
        loop = self._gateway.running.loop
        return loop is not None and loop.is_alive and not self._gateway.running.is_stopping

    def begin(self) -> None:
        """Take note of the running event loop: no server may ever come in here."""
        self._gateway.running.running_loop()
        self._gateway.engine.heartbeat.ensure()

    def drain(self) -> Awaitable[None]:
        """Wait for what runs, within bounds, and record how the rest has ended."""
        return self._gateway.running.drain()

    def rerun(self, operation: Operation, request: Request, body: IO[bytes]) -> Rerun:
        """Begin to run a request; from any thread.

        Raises:
            RuntimeError: The loop has ended.
        """
        loop = self._gateway.running.loop
        if loop is None or not self.is_ready:
            raise RuntimeError("the event loop has ended")
        run = Rerun(self._gateway, loop, operation, request, body)
        loop.call(run.begin)
        return run


class Rerun(Exchange):
    """A request that is run again; nobody waits for its response but the store."""

    _is_begun = False  # on the class: see `Exchange`

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
        self.is_rerun = operation.attempts > 1
        self.capture = self._resume(operation, request)
        self._stored = StoredUpload(body)
        self._is_inside = False
        self._is_entered = False

    def begin(self) -> None:
        """Begin, in the loop's thread."""
        self._is_begun = True
        self.gateway.running.adopt(self)
        self.task = self.loop.spawn(self._rerun())

    async def _rerun(self) -> None:
        """Call the outermost application; what comes of it there is what a client would get."""
        CURRENT.set(self)
        error: BaseException | None = None
        try:
            outermost = self.gateway.surroundings.outermost()
            if outermost is self.gateway.app:
                self._is_entered = True
            await outermost(self.scope, self._receive_outside, self._send_outside)
        except BaseException as raised:
            error = raised
        if not self._is_inside:
            self.error, self.over = error, True
            await self._conclude()
        elif isinstance(error, Exception):
            logger.error("what is around %r raised", self.path, exc_info=error)

    async def come_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go on at the middleware: as after a 202, of which nobody hears."""
        self._is_entered = True
        self.scope = scope
        await self._take_body(receive)
        self._is_inside = True
        self.task = self.loop.spawn(self.run())
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _take_body(self, receive: Receive) -> None:
        """Have the handler receive what is handed on to the middleware, and not from outside."""
        if receive == self._receive_outside:
            self.upload, self.body_is_complete = self._stored, True
            return
        # All of it, now: once it is told of a response, what is around may let go of the rest.
        self.server_receive = receive
        try:
            is_whole = await self._read_ahead()
        finally:
            self._stop_reading()
        if not is_whole:
            raise RuntimeError("the body of a request that is run again was not handed on whole")

    def _new_upload(self) -> Upload:
        limit = self.gateway.engine.limits.request_body
        return Upload(limit, Spooled(limit))  # it was let in before, so there is room

    async def _keep(self, message: Message) -> None:
        """Keep nothing: the store has it."""

    async def _close_upload(self) -> None:
        await super()._close_upload()
        await self._stored.close()

    def _wake_anywhere(self) -> None:
        if self._is_begun:  # before, no task waits, and to wake a loop costs more than to begin
            super()._wake_anywhere()

    def is_for(self, gateway: Gateway, scope: Scope) -> bool:
        """Tell whether it has come to where it came in first, and this is not another request."""
        is_it = gateway is self.gateway and scope.get(REQUEST) is self.sign
        return is_it and not self._is_entered

    async def _receive_outside(self) -> Message:
        if (message := await self._stored.take()) is not None:
            return message
        await self._end().wait_for_disconnect()
        return {"type": "http.disconnect"}

    async def _send_outside(self, message: Message) -> None:
        if not self._is_inside:
            await self.send(message)


async def _nothing() -> Message:
    raise AssertionError("there is no server to receive from")


async def _nowhere(message: Message) -> None:
    raise AssertionError("there is no server to send to")
