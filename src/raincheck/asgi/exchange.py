"""One request that may be deferred, from the call of the application to its end.

The application runs in its own task and the server's task waits for it. Whichever comes first
wakes the server's task: the application is over, its budget is, or its handler is marked. Until
then messages go straight between application and server. What becomes of the request says its
`Deferral`, which few need: it is made when the budget is over, or the handler says something.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from asgiref.sync import markcoroutinefunction

from raincheck.asgi.candidate import is_left_alone
from raincheck.asgi.capture import Capture
from raincheck.asgi.gateway import Gateway
from raincheck.asgi.handler_side import HandlerSide
from raincheck.asgi.translation import extensions_of, send_response
from raincheck.asgi.upload import Upload
from raincheck.config.policy import Candidate
from raincheck.engine.deferral import Deferral
from raincheck.engine.fate import Where
from raincheck.engine.idempotency import Sharing
from raincheck.engine.refusals import refuse_unaccepted, refuse_unread
from raincheck.engine.start import Accepted
from raincheck.errors import RaincheckError
from raincheck.handler import CURRENT, REQUEST, outside
from raincheck.http.messages import Request, Response
from raincheck.monitor.links import fill
from raincheck.operations.operation import Operation
from raincheck.runners.leaving import is_exit

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from raincheck.asgi.budgets import Awaits
    from raincheck.asgi.loops import Loop
    from raincheck.asgi.stored_upload import StoredUpload

logger = logging.getLogger("raincheck")

_T = TypeVar("_T")


class Exchange(HandlerSide):
    """Runs the application for one request, and defers it if need be."""

    # Only what few requests need is on the class: to set it would cost every request, but to look
    # it up here costs four times as much as on the instance.
    passes = False  # the response may go to the client as well as into the store
    _decision: anyio.Event | None = None
    _is_deciding = False
    _server_left = False
    _is_concluded = False
    _handed_over: Operation | None = None
    upload: Upload | StoredUpload | None = None  # before there is a deferral, and so is `capture`

    def __init__(
        self,
        gateway: Gateway,
        scope: Scope,
        receive: Receive,
        send: Send,
        candidate: Candidate,
        template: str | None = None,
        loop: Loop | None = None,
    ) -> None:
        self.gateway = gateway
        self.loop: Loop = loop or gateway.enter(scope)
        self.scope = scope
        self.server_receive: Receive = receive
        self.server_send: Send = send
        self.candidate = candidate
        self.arrived: Scope = {**scope}
        scope[REQUEST] = self.arrived  # not this object: a cycle would cost more than the rest
        self.template = template
        self.started = False  # the application's response, towards the server
        self.over = False  # the application has returned or raised
        self.error: BaseException | None = None
        self.deferral: Deferral | None = None  # few requests need one
        self.capture: Capture | None = None  # on the class, it would cost a KiB where it is set
        self.waiter: Any = None
        self.watched: dict[Awaits, float] | None = None

    # --- the server's task ---------------------------------------------------------------------

    async def serve(self) -> None:
        """Do for the server what calling the application would, or send a 202."""
        self.loop.launch(self, self.candidate.budget)
        await self.see_through()

    async def see_through(self) -> None:
        """Do the rest of that: wait for the one who wakes this first, and do what is to be done."""
        try:
            if not self.over and not self._is_wanted:
                await self.waiter
            if not self.over or self._is_wanted:  # a marked one may be both
                await self._promote()
        except BaseException as error:
            await self.break_off(error)
            raise
        if self.capture is None:
            del self.task  # its context refers to this object, and a cycle costs more than the rest
            if self.deferral is not None:
                self.deferral.let_go()
            if self.error is not None:
                try:
                    raise self.error
                finally:
                    self.error = None  # or its traceback would keep this object alive

    @property
    def _is_wanted(self) -> bool:
        """Whether the server's task is to answer, and not the application."""
        return self.deferral is not None and (self.deferral.is_held or self._is_left)

    @property
    def _is_left(self) -> bool:
        return self.deferral is not None and self.deferral.is_handed_over

    async def break_off(self, error: BaseException) -> None:
        """End the application as the server ends this task; after the 202, leave it alone."""
        if self._is_deciding:
            self._server_left = True
        elif self.capture is None and not isinstance(error, GeneratorExit):
            self._stop_reading()
            self._stay()
            if not self.over:
                await self.loop.see_off(self.task, self._is_over, self._pause)
            self._log_error()
            self.ensure_deferral().let_go()
            del self.task  # or there would be a cycle
            await self._close_upload()

    def _log_error(self) -> None:
        """Log what the application has raised, of which the server is not told any more."""
        if isinstance(self.error, Exception):
            logger.error("%r raised when its server had left", self.path, exc_info=self.error)
        self.error = None

    async def _promote(self) -> None:
        """Answer 202, or let the request go on as it is."""
        # Only now: a fast request need not be asked.
        if is_left_alone(self.gateway.engine.policy, self.arrived):
            await self._go_on()
            return
        deferral = self.ensure_deferral()  # before anything is read ahead: see `send`, `receive`
        is_read = await self._read_ahead()
        if is_read and not self._needs_no_202() and deferral.hold():
            await self._accept()
        if self._is_left:
            await self._leave_to_workers(is_read=is_read)
            return
        if self.operation is not None:
            await self._send_accepted(self.operation)
            return
        with self.gateway.engine.health.stay():
            await self._go_on()

    async def _leave_to_workers(self, *, is_read: bool) -> None:
        """Answer for a handler that has been left: what its framework makes of that is nothing."""
        deferral, refusal = self.ensure_deferral(), None
        if is_read:
            refusal = await self._decide(self._record_for_workers)
        elif not self.client_is_gone:
            limits, room = self.gateway.engine.limits, self._has_room
            given = (self.candidate, None, limits)
            refusal = refuse_unread(*given, has_room=room, queue=deferral.queue)
        if refusal is not None:
            await self.gateway.status.refuse(self.arrived, self.server_send, refusal)
        elif (operation := self._handed_over) is not None:
            await send_response(self.arrived, self.server_send, self._started(operation))
        while not self.over:
            await self._pause()
        self._stop_reading()
        await self._close_upload()
        if self.error is not None and not is_exit(self.error):
            self._log_error()
        self.error = None

    @property
    def _has_room(self) -> bool:
        return not isinstance(self.upload, Upload) or self.upload.has_room

    async def _record_for_workers(self) -> Response | None:
        try:
            self._handed_over = (await self._create()).operation
        except Exception as error:
            return refuse_unaccepted(error, None, self.path, self.ensure_deferral().queue)
        return None

    async def _go_on(self) -> None:
        """Wait for the application's end: its response is the client's."""
        self._stay()
        while not self.over:
            await self._pause()
        self._stop_reading()
        await self._close_upload()

    def _stay(self) -> None:
        self.ensure_deferral().keep()
        self._let_decided_go_on()

    async def _decide(self, record: Callable[[], Awaitable[_T]]) -> _T | None:
        """Have something recorded, and return what comes of it."""
        # In a task of its own: a server that cancels this one must not come between the record
        # of an operation and the handler that works on it.
        self._is_deciding, found = True, list[_T]()

        async def decide() -> None:
            found.append(await record())
            self._is_deciding = False
            self._wake()
            if self._server_left and self.capture is None:
                await self._close_upload()  # nobody else does

        self.loop.spawn(decide())
        while self._is_deciding:
            await self._pause()
        return found[0] if found else None

    async def _accept(self) -> None:
        await self._decide(self._record)

    async def _record(self) -> None:
        try:
            await self._attach((await self._create()).operation)
        except RaincheckError as error:
            logger.warning("%r stays synchronous: %s", self.path, error)
        except Exception:
            logger.exception("%r stays synchronous", self.path)
        self._is_deciding = False
        if self.operation is None:
            self.ensure_deferral().keep()
        self._let_decided_go_on()
        self._wake()
        if self.operation is None and self._server_left:
            self._log_error()
            await self.loop.cancel(self.task, self._is_over)
        elif self.operation is not None and self.over:
            await self._conclude()

    async def _create(self, sharing: Sharing | None = None) -> Accepted:
        deferral, asks = self.ensure_deferral(), self.gateway.asks or sharing is not None
        prepare = partial(deferral.prepare, sharing)
        start = await self.loop.ask(prepare) if asks else prepare()
        return await self.loop.promote(deferral.record, self, start)

    async def _attach(self, operation: Operation) -> None:
        """From here on the application answers to the store, and nothing to the server."""
        deferral = self.ensure_deferral()
        while (writer := deferral.attach(operation)) is None:
            await self.loop.promote(deferral.mark_again, operation)
        self.capture = Capture(writer, self.loop)
        offered = extensions_of(self.arrived, passes=self.passes)
        if offered or "extensions" in self.scope:  # one key more may double the scope's size
            self.scope["extensions"] = offered
        self.gateway.running.adopt(self)

    def _resume(self, operation: Operation, request: Request) -> Capture:
        """Be another run of an operation."""
        return Capture(self.ensure_deferral().resume(operation, request), self.loop)

    async def _send_accepted(self, operation: Operation) -> None:
        send = self.server_send
        # The server's objects for this request can go, and what this task has waited for.
        del self.server_send, self.server_receive
        self.waiter = None
        await send_response(self.arrived, send, self._started(operation))

    def _started(self, operation: Operation) -> Response:
        path, applied = fill(self.template, operation.id), self.candidate.applied
        return self.gateway.monitor.started(operation, self.describe(), applied, path)

    def budget_is_over(self) -> None:
        """Let the server's task promote the request, unless its response has started."""
        if not self.started:
            self._wake()

    async def _pause(self) -> None:
        """Wait until something has changed."""
        self.waiter = waiter = self.loop.waiter()
        await waiter

    def _wake(self) -> None:
        if self.waiter is not None:
            self.loop.wake(self.waiter)

    def _needs_no_202(self) -> bool:
        # Who is marked gets a 202 however fast the handler fails.
        return self.started or (self.over and not self._is_wanted)

    def _let_decided_go_on(self) -> None:
        if self._decision is not None:
            self._decision.set()
            self._decision = None

    # --- the application's task ----------------------------------------------------------------

    async def run(self) -> None:
        CURRENT.set(self)  # in this task's context only
        try:
            await self.gateway.app(self.scope, self.receive, self.send)
        except BaseException as error:
            self.error = error
        self.over = True
        self.scope.pop(REQUEST, None)
        if self.watched is not None:
            self.watched.pop(self, None)
        if self.deferral is not None:
            self.deferral.end()
            if self.capture is not None:
                await self._conclude()
                return
        if (waiter := self.waiter) is not None and not waiter.done():
            waiter.set_result(None)

    async def _conclude(self) -> None:
        """End the operation, if its response did not."""
        capture, error, self.error = self.capture, self.error, None
        if capture is None or self._is_concluded or self.is_stranded:
            return
        self._is_concluded = True
        try:
            if self.stopping is not None:
                await self.stopping.until_outside()
            if not self._is_left:  # then the operation is for workers to end
                await self._record_end(capture, error)
        finally:
            self.gateway.running.release(self)
            del self.task  # as above: a cycle
            self._wake()
            self.ensure_deferral().let_go()
            await self._close_upload()
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error

    async def _record_end(self, capture: Capture, error: BaseException | None) -> None:
        if not capture.has_started:
            await self._find_owner()
        exits = isinstance(error, (KeyboardInterrupt, SystemExit))
        exits = exits or self.loop.has_cancelled(self.task, error)
        await capture.conclude(error, is_cancelled=self.is_cancelled, is_exit=exits)

    # Not `async def`: handing back the server's own coroutine is cheaper.
    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message of the application on: to the server, or into the store."""
        if self.started:
            if message.get("more_body"):
                return self.server_send(message)
            # Servers go on with the client's next request when this one has its response.
            return outside(self.server_send, message)
        if self.deferral is not None:
            return self._send_where(self.deferral, message)
        if message["type"] == "http.response.start":
            self.started = True
        return self.server_send(message)

    async def _send_where(self, deferral: Deferral, message: Message) -> None:
        """Send a message where it goes, as soon as that is decided."""
        begins = message["type"] == "http.response.start"
        while (where := deferral.respond() if begins else deferral.where) is Where.WAIT:
            self._decision = self._decision or anyio.Event()
            await self._decision.wait()
        if where is Where.CLIENT:
            if begins:
                self.started = True
                self._wake()
            await self.server_send(message)
        elif where is Where.STORE and self.capture is not None:
            await self._record_message(self.capture, message)

    async def _record_message(self, capture: Capture, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._find_owner(is_last=True)
        await capture.send(message)
        if capture.is_given_up:
            self.stop()
        elif capture.is_over:
            self._end().disconnect()  # as servers do, and Quart is not over before
            self._wake()


# asgiref's adapters refuse a `send` that they don't take for a coroutine function.
markcoroutinefunction(Exchange.send)
