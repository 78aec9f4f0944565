"""One request that may be deferred, from the call of the application to its end.

The application runs in its own task and the server's task waits for it. Whichever comes first
wakes the server's task: the application is over, its budget is, or its handler is marked. Until a
202 is decided on, messages go straight between application and server. `hold` is the one gate:
while it is closed, the application can't start a response.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, cast

import anyio
from asgiref.sync import markcoroutinefunction

from raincheck.asgi.capture import Capture
from raincheck.asgi.decision import is_left_alone
from raincheck.asgi.gateway import Gateway
from raincheck.asgi.ownership import Ownership
from raincheck.asgi.stopping import Stopping
from raincheck.asgi.translation import extensions_of, send_response
from raincheck.config.policy import Candidate
from raincheck.engine.response_writer import ResponseWriter
from raincheck.engine.start import Key, Start
from raincheck.errors import RaincheckError
from raincheck.handler import CURRENT, REQUEST, UNMARKED, Marking, outside
from raincheck.monitor.links import fill
from raincheck.operations.operation import Operation, Progress, Reason

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from raincheck.asgi.loops import Awaits, Loop, Task

logger = logging.getLogger("raincheck")


class Exchange(Ownership):
    """Runs the application for one request, and defers it if need be."""

    # Only what few requests need is on the class: to set it would cost every request, but to look
    # it up here costs four times as much as on the instance.
    is_cancelled = False
    is_rerun = False
    passes = False  # the response may go to the client as well as into the store
    marking = UNMARKED
    _key: Key | None = None
    operation: Operation | None = None
    progress: Progress | None = None
    _decision: anyio.Event | None = None
    stopping: Stopping | None = None
    _recorded = UNMARKED
    _is_deciding = False
    _stays = False  # synchronous: a promotion has failed, and there is no second one
    _server_left = False
    _is_concluded = False

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
        self.capture: Capture | None = None
        self.waiter: Any = None
        self.upload = None
        self.hold = False
        self._watched: dict[Awaits, float] | None = None

    # --- the server's task ---------------------------------------------------------------------

    async def serve(self) -> None:
        """Do for the server what calling the application would, or send a 202."""
        budget = self.candidate.budget
        self.task: Task = self.loop.spawn(self._run(), eager=True)
        if not self.over or self.hold:  # a marked one may be both
            self.waiter = waiter = self.loop.waiter()
            if budget:
                self._watched = self.loop.watch(self, budget)
            try:
                if not self.hold:
                    await waiter
                if not self.over or self.hold:
                    await self._promote()
            except BaseException as error:
                await self._leave(error)
                raise
        if self.capture is None:
            del self.task  # its context refers to this object, and a cycle costs more than the rest
            if self.error is not None:
                try:
                    raise self.error
                finally:
                    self.error = None  # or its traceback would keep this object alive

    async def _leave(self, error: BaseException) -> None:
        """End the application as the server ends this task; after the 202, leave it alone."""
        if self._is_deciding:
            self._server_left = True
        elif self.capture is None and not isinstance(error, GeneratorExit):
            self._stop_reading()
            self._stays = True
            self._open_gate()
            if not self.over:
                await self.loop.see_off(self.task, self._is_over, self._pause)
            self._log_error()
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
        if not self._stays and await self._read_ahead() and not self._needs_no_202():
            self.hold = True
            await self._accept()
        if self.operation is not None:
            await self._send_accepted(self.operation)
            return
        with self.gateway.engine.health.stay():
            await self._go_on()

    async def _go_on(self) -> None:
        """Wait for the application's end: its response is the client's."""
        self._stays = True
        while not self.over:
            self._open_gate()  # again and again: a thread may have marked in this very moment
            await self._pause()
        self._stop_reading()
        await self._close_upload()

    async def _accept(self) -> None:
        # In a task of its own: a server that cancels this one must not come between the record
        # of an operation and the handler that works on it.
        self._is_deciding = True
        self.loop.spawn(self._record())
        while self._is_deciding:
            await self._pause()

    async def _record(self) -> None:
        try:
            accepted = await self._create()
            while self.marking != self._recorded:  # its handler was called meanwhile
                await self.loop.promote(self._mark, accepted.operation)
            self._detach(accepted.operation)
        except RaincheckError as error:
            logger.warning("%r stays synchronous: %s", self.path, error)
        except Exception:
            logger.exception("%r stays synchronous", self.path)
        self._is_deciding = False
        self._open_gate()
        self._wake()
        if self.operation is None and self._server_left:
            self._stays = True
            self._log_error()
            await self.loop.cancel(self.task, self._is_over)
        elif self.operation is not None and self.over:
            await self._conclude()

    def _mark(self, operation: Operation) -> None:
        """Record what the handler has said of itself meanwhile, or that nobody heard of it."""
        marking = self.marking
        try:
            self.gateway.engine.mark(operation, marking, in_time=True)
        except BaseException:
            ResponseWriter(self.gateway.engine, operation).fail(Reason.INTERRUPTED)
            raise
        self._recorded = marking

    def _start(self, owner: str | None, webhook: str | None) -> Start:
        self._recorded = self.marking
        return Start(
            method=self.arrived["method"],
            route=self.route,
            root_path=self._root_path,
            owner=owner,
            progress=self.progress,
            marking=self._recorded,
            capture=self._capture,
            key=self._key,
            webhook=webhook,
            is_reached=self.is_reached,
        )

    def _detach(self, operation: Operation) -> None:
        """From here on the application answers to the store, and nothing to the server."""
        self.operation = operation
        self.capture = Capture(self.gateway.engine, operation, self.loop, self.described())
        self.scope["extensions"] = extensions_of(self.arrived, passes=self.passes)
        self.gateway.running.adopt(self)
        if self.progress is not None and self.progress is not operation.progress:
            self.report(self.progress)  # it came while the operation was being recorded

    async def _send_accepted(self, operation: Operation) -> None:
        send = self.server_send
        # The server's objects for this request can go.
        del self.server_send, self.server_receive
        path = fill(self.template, operation.id)
        started, applied = self.gateway.monitor.started, self.candidate.applied
        response = started(operation, self.described(), applied, path)
        await send_response(self.arrived, send, response)

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

    def _is_over(self) -> bool:
        return self.over

    def _needs_no_202(self) -> bool:
        # Who is marked gets a 202 however fast the handler fails.
        return self.started or (self.over and not self.hold)

    def _open_gate(self) -> None:
        self.hold = False
        if self._decision is not None:
            self._decision.set()
            self._decision = None

    # --- the application's task ----------------------------------------------------------------

    async def _run(self) -> None:
        CURRENT.set(self)  # in this task's context only
        try:
            await self.gateway.app(self.scope, self.receive, self.send)
        except BaseException as error:
            self.error = error
        self.over = True
        self.scope.pop(REQUEST, None)
        if self._watched is not None:
            self._watched.pop(self, None)
        if self.capture is not None:
            await self._conclude()
        elif self.waiter is not None:
            self.loop.wake(self.waiter)

    async def _conclude(self) -> None:
        """End the operation, if its response did not."""
        capture, error, self.error = self.capture, self.error, None
        if capture is None or self._is_concluded or self.is_stranded:
            return
        self._is_concluded = True
        try:
            if self.stopping is not None:
                await self.stopping.until_outside()
            if not capture.has_started:
                await self._find_owner()
            is_exit = isinstance(error, (KeyboardInterrupt, SystemExit))
            is_exit = is_exit or self.loop.has_cancelled(self.task, error)
            await capture.conclude(error, is_cancelled=self.is_cancelled, is_exit=is_exit)
        finally:
            self.gateway.running.release(self)
            del self.task  # as above: a cycle
            self._wake()
            await self._close_upload()
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error

    # Not `async def`: handing back the server's own coroutine is cheaper.
    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message of the application on: to the server, or into the store."""
        if self.started:
            is_last = not message.get("more_body", False)
            # Servers go on with the client's next request when this one has its response.
            return outside(self.server_send, message) if is_last else self.server_send(message)
        if self.capture is not None:
            return self._record_message(self.capture, message)
        if self.hold:
            return self._send_when_decided(message)
        if message["type"] == "http.response.start":
            self.started = True
            if self.upload is not None:
                self._wake()
        return self.server_send(message)

    async def _record_message(self, capture: Capture, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._find_owner(is_last=True)
        await capture.send(message)
        if capture.is_given_up:
            self.stop()
        elif capture.is_over:
            self._end().disconnect()  # as servers do, and Quart is not over before
            self._wake()

    async def _send_when_decided(self, message: Message) -> None:
        while self.hold and self.capture is None:
            self._decision = self._decision or anyio.Event()
            await self._decision.wait()
        await self.send(message)

    # --- what the handler and others say -------------------------------------------------------

    @property
    def is_stranded(self) -> bool:
        """Whether it will never go on: its event loop has ended before it."""
        return self.loop.has_ended

    def defer(self, marking: Marking) -> None:
        """Have the request answered 202, unless it has been answered or is over."""
        self.marking = marking
        self.reach()
        if self.operation is not None:
            self.gateway.engine.mark(self.operation, marking)
        elif not (self.started or self.hold or self.over or self._stays):
            self.hold = True
            self.loop.call(self._wake)

    def enter(self) -> None:
        """Take note that a sync handler begins."""
        self._end().enter()

    def leave(self) -> None:
        """Take note that a sync handler has ended."""
        self._end().leave()

    def report(self, progress: Progress) -> None:
        """Keep a handler's progress until there is an operation, then pass it on."""
        self.progress = progress
        self.reach()
        if self.operation is not None:
            self.gateway.engine.report(self.operation, progress)

    def request_cancel(self) -> None:
        """Have the handler stopped, from any thread."""
        self.is_cancelled = True
        self.loop.call(self.stop)

    def stop(self) -> None:
        """Have the handler stopped, from the loop's thread."""
        self.is_cancelled = True
        end = self._end()
        if not end.is_requested and not self.over and hasattr(self, "task"):
            end.is_requested = True
            # Not the task of now: a re-run goes on in another one.
            self.loop.spawn(end.carry_out(lambda: self.task, self._is_over))

    def give_up(self, reason: Reason) -> None:
        """End the operation without a response, and have the handler stopped; may block."""
        if self.capture is not None:
            self.capture.give_up(reason)
        self.request_cancel()
        if self.is_stranded:
            self.gateway.running.release(self)

    def abort(self) -> None:
        """Cancel the application's task, whatever it waits for: the process is about to end."""
        self._end().give_up()
        if not self.over:
            self.task.cancel()

    def _end(self) -> Stopping:
        # setdefault is atomic: a handler's thread and the loop may come here at once.
        if self.stopping is None:
            return cast(Stopping, self.__dict__.setdefault("stopping", Stopping(self.loop)))
        return self.stopping


# asgiref's adapters refuse a `send` that they don't take for a coroutine function.
markcoroutinefunction(Exchange.send)
