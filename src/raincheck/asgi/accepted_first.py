"""A request that becomes an operation before its handler is called.

Because it is deferred from the start, so that limits are looked at before anything runs; or because
another request may have become the same operation: both have an `Idempotency-Key`, or are alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from raincheck.asgi.capture import Capture
from raincheck.asgi.exchange import Exchange
from raincheck.asgi.long_polls import until_gone
from raincheck.asgi.passing import Passing
from raincheck.asgi.upload import Upload
from raincheck.config.policy import Candidate
from raincheck.engine.idempotency import Sharing
from raincheck.engine.refusals import may_pass, refuse_unaccepted, refuse_unread
from raincheck.http.messages import Headers, Response
from raincheck.monitor.poll import Repeat
from raincheck.operations.operation import Operation

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from raincheck.asgi.gateway import Gateway


class AcceptedFirst(Exchange):
    """Records an operation, and then runs the application for it.

    Args:
        sharing: How others may be one with it; None: they may not.
    """

    _refusal: Response | None = None
    _broken: Exception | None = None  # raised when a part of the response had been passed on
    _other: Operation | None = None  # that another request has become before
    _queued: Operation | None = None  # that workers run

    def __init__(
        self,
        gateway: Gateway,
        scope: Scope,
        receive: Receive,
        send: Send,
        candidate: Candidate,
        template: str | None = None,
        *,
        sharing: Sharing | None = None,
    ) -> None:
        super().__init__(gateway, scope, receive, send, candidate, template)
        self._sharing = sharing
        self.passes = may_pass(candidate, sharing)
        self._passing = Passing(self.server_send) if self.passes else None

    async def serve(self) -> None:
        """Do for the server what calling the application would, or send a 202."""
        try:
            if is_read := await self._read_ahead():
                await self._accept()
        except BaseException:
            self._server_left = True
            self._stop_reading()
            self._leave_alone()
            raise
        if not is_read:
            has_room = self._has_room
            limits = self.gateway.engine.limits
            given = (self.candidate, self._sharing, limits)
            queue = self.candidate.queue
            self._refusal = refuse_unread(*given, has_room=has_room, queue=queue)
            if self.client_is_gone and (self._sharing is not None or queue is not None):
                await self._close_upload()
                return  # it has not come whole, and nobody is there to be told
        if self._refusal is not None:
            await self._close_upload()
            await self.gateway.status.refuse(self.arrived, self.server_send, self._refusal)
        elif self._other is not None:
            await self._close_upload()
            await self._answer(self._other)
        elif self._queued is not None:
            await self._close_upload()
            await self._send_accepted(self._queued)
        elif self.operation is None:
            self.ensure_deferral().keep()
            with self.gateway.engine.health.stay():
                await super().serve()
        elif not await self._is_answered_in_time():
            await self._send_accepted(self.operation)
        elif not self._has_begun:
            await self._answer(self.operation, self.first_headers)
        elif self._broken is not None:
            try:
                raise self._broken
            finally:
                self._broken = None  # or its traceback would keep this object alive

    async def _keep(self, message: Message) -> None:
        """Keep nothing beside what was read ahead, which is all of it."""

    def body(self) -> Iterable[bytes]:
        """Return the whole body, of which the handler has had nothing yet."""
        return self.upload.pieces() if isinstance(self.upload, Upload) else ()

    # --- recording the operation ---------------------------------------------------------------

    async def _record(self) -> None:
        try:
            accepted = await self._create(self._sharing)
            if accepted.is_new and self.candidate.queue is not None:
                self._queued = accepted.operation
            elif accepted.is_new:
                await self._begin(accepted.operation)
            else:
                self._other = accepted.operation
        except Exception as error:
            queue = self.candidate.queue
            self._refusal = refuse_unaccepted(error, self._sharing, self.path, queue)

    async def _begin(self, operation: Operation) -> None:
        await self._attach(operation)
        if self._server_left:
            self._leave_alone()
        self.task = self.loop.spawn(self.run())
        if self.is_cancelled:  # before there was anything to stop
            self.stop()

    async def _record_message(self, capture: Capture, message: Message) -> None:
        """Record a message, and pass it on to the client if it has not been told to poll."""
        passing = self._passing
        if message["type"] == "http.response.start" and passing is not None and passing.is_open:
            await self._find_owner(is_last=True)  # before it is settled where the response goes
        if passing is None or not passing.is_open or (self._is_due and not passing.has_begun):
            await super()._record_message(capture, message)
            return
        await capture.send(message)  # with a status, nothing is awaited: no 202 comes between
        if message["type"] == "http.response.start":
            passing.has_begun = True
        await passing.pass_on(message)
        if capture.is_given_up:  # recorded or not, it is the client's, if there is one
            if not (passing.has_begun and passing.is_open):
                self.stop()
        elif capture.is_over:
            passing.is_complete = True
            self._end().disconnect()
        self._wake()

    async def _conclude(self) -> None:
        passing = self._passing
        is_cut = passing is not None and passing.has_begun and not passing.is_complete
        if is_cut and isinstance(self.error, Exception):
            self._broken = self.error  # the server is to cut the response off
        await super()._conclude()

    # --- answering -----------------------------------------------------------------------------

    async def _is_answered_in_time(self) -> bool:
        """Wait for the response as long as the handler may take to begin it; a marked one may not.

        Returns:
            Whether it was passed on, or its operation has ended without.
        """
        if self._passing is None:
            return False
        budget = self.candidate.budget
        timers = self.loop.watch(self, budget) if budget is not None else {}
        listener = self.loop.spawn(self._listen(self.server_receive))
        try:
            while not self._is_decided:
                await self._pause()
        finally:
            timers.pop(self, None)
            listener.cancel()
            self._leave_alone()
        return self._has_begun or self._has_ended

    async def _listen(self, receive: Receive) -> None:
        await until_gone(receive, self.loop)
        if self._passing is not None:
            self._passing.close()
        self.client_is_gone = True
        self._wake()

    @property
    def _is_due(self) -> bool:
        return self.ensure_deferral().is_due

    @property
    def _has_begun(self) -> bool:
        """Whether the client has been sent the beginning of the response."""
        return self._passing is not None and self._passing.has_begun

    @property
    def _is_decided(self) -> bool:
        passing = self._passing
        if passing is None or not passing.has_begun:
            return self._has_ended or self._is_due or self.client_is_gone
        return passing.is_complete or self.over or not passing.is_open

    def _leave_alone(self) -> None:
        """Say that the client waits for the response no longer."""
        if self._passing is not None:
            self._passing.close()
        self.ensure_deferral().leave_alone()

    @property
    def _has_ended(self) -> bool:
        return self._is_concluded or (self.capture is not None and self.capture.is_over)

    @property
    def first_headers(self) -> Headers | None:
        """The header fields as the handler gave them, if it gave any."""
        return self.capture.first_headers if self.capture is not None else None

    async def _answer(self, operation: Operation, first: Headers | None = None) -> None:
        """Answer with what the operation has come to; where another request runs it, wait."""
        deferral, request = self.ensure_deferral(), self.describe()
        repeat = Repeat.of(deferral, request, operation, self.template, first)
        send, receive = self.server_send, self.server_receive
        response = await self.gateway.status.answer(lambda: repeat, receive)
        await self.gateway.status.send(self.arrived, send, response)

    def budget_is_over(self) -> None:
        """Have the server's task send the 202, unless its client could do nothing with one."""
        self.ensure_deferral().note_due()
