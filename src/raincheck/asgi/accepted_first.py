"""A request that becomes an operation before its handler is called.

Because it is deferred from the start, so that limits are looked at before anything runs; or because
another request may have become the same operation: both have an `Idempotency-Key`, or are alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from raincheck.asgi.exchange import Exchange
from raincheck.asgi.long_polls import until_gone
from raincheck.asgi.translation import send_response
from raincheck.asgi.upload import Upload
from raincheck.beginning import key_for, refuse_unaccepted, refuse_unread
from raincheck.keys import Sharing
from raincheck.links import fill
from raincheck.marking import Terms
from raincheck.messages import Headers, Response
from raincheck.operation import Operation
from raincheck.policy import Candidate
from raincheck.polling import Repeat
from raincheck.starting import Start

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from raincheck.asgi.gateway import Gateway


class AcceptedFirst(Exchange):
    """Records an operation, and then runs the application for it.

    Args:
        sharing: How others may be one with it; None: they may not.
    """

    _is_due = False  # the client has waited as long as it may
    _refusal: Response | None = None
    _other: Operation | None = None  # that another request has become before

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
            has_room = not isinstance(self.upload, Upload) or self.upload.has_room
            limits = self.gateway.core.limits
            self._refusal = refuse_unread(self.candidate, self._sharing, limits, has_room=has_room)
            if self.client_is_gone and self._sharing is not None:
                await self._close_upload()
                return  # it has not come whole, and nobody is there to be told
        if self._refusal is not None:
            await self._close_upload()
            await send_response(self.arrived, self.server_send, self._refusal)
        elif self._other is not None:
            await self._close_upload()
            await self._answer(self._other)
        elif self.operation is None:
            self._stays = True
            with self.gateway.core.health.stay():
                await super().serve()
        elif await self._has_ended_in_time():
            await self._answer(self.operation, self.first_headers)
        else:
            await self._send_accepted(self.operation)

    async def _keep(self, message: Message) -> None:
        """Keep nothing beside what was read ahead, which is all of it."""

    def kept_body(self) -> Iterable[bytes]:
        """Return the whole body, of which the handler has had nothing yet."""
        return self.upload.pieces() if isinstance(self.upload, Upload) else ()

    # --- recording the operation ---------------------------------------------------------------

    async def _record(self) -> None:
        try:
            accepted = await self.loop.poll(self._create)
        except Exception as error:
            self._refusal = refuse_unaccepted(error, self._sharing, self.path)
        else:
            if accepted.is_new:
                self._begin(accepted.operation)
            else:
                self._other = accepted.operation
        self._is_deciding = False
        self._wake()

    def _begin(self, operation: Operation) -> None:
        self._detach(operation)
        if self._server_left:
            self._leave_alone()
        self.task = self.loop.spawn(self._run())
        if self.is_cancelled:  # before there was anything to stop
            self.stop()

    def _start(self, owner: str | None, webhook: str | None) -> Start:
        if self._sharing is not None:
            core, body = self.gateway.core, self.kept_body()
            self._key = key_for(core, self._sharing, self.described(), self.route, owner, body)
        waits = self._sharing is not None and self.candidate.budget != 0
        return replace(super()._start(owner, webhook), is_attended=waits)

    # --- answering -----------------------------------------------------------------------------

    async def _has_ended_in_time(self) -> bool:
        """Wait for the end as long as the handler may take; a marked one may not."""
        budget = self.candidate.budget
        if self._sharing is None or budget == 0:
            return False
        timers = self.loop.watch(self, budget) if budget is not None else {}
        listener = self.loop.spawn(self._listen(self.server_receive))
        try:
            while not self._has_ended and not self._is_due:
                await self._pause()
        finally:
            timers.pop(self, None)
            listener.cancel()
            self._leave_alone()
        return self._has_ended

    async def _listen(self, receive: Receive) -> None:
        await until_gone(receive)
        self.budget_is_over()

    def _leave_alone(self) -> None:
        """Say that the client waits for the response no longer."""
        if self.operation is not None:
            self.gateway.core.leave_alone(self.operation)

    @property
    def _has_ended(self) -> bool:
        return self._is_concluded or (self.capture is not None and self.capture.is_over)

    @property
    def first_headers(self) -> Headers | None:
        """The header fields as the handler gave them, if it gave any."""
        return self.capture.first_headers if self.capture is not None else None

    async def _answer(self, operation: Operation, first: Headers | None = None) -> None:
        """Answer with what the operation has come to; where another request runs it, wait."""
        assert self._key is not None  # noqa: S101 - or there would be nothing to share
        repeat = Repeat(
            request=self.described(),
            operation_id=operation.id,
            path=fill(self.template, operation.id),
            key=self._key,
            candidate=self.candidate,
            first=first,
        )
        send, receive = self.server_send, self.server_receive
        response = await self.gateway.answer(lambda: repeat, receive)
        await self.gateway.send(self.arrived, send, response)

    def budget_is_over(self) -> None:
        """Have the server's task send the 202."""
        self._is_due = True
        self._wake()

    def defer(self, terms: Terms) -> None:
        """Have the server's task send the 202, and take what the handler says of itself."""
        if self.operation is not None:
            self.loop.call(self.budget_is_over)
        super().defer(terms)
