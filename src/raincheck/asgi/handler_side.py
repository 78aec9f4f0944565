"""The handler's side of an exchange: what it and others say to the deferral, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from raincheck.asgi.candidate import is_left_alone
from raincheck.asgi.handler_end import HandlerEnd
from raincheck.asgi.request_body import Receiving
from raincheck.config.policy import Candidate
from raincheck.engine.deferral import Deferral
from raincheck.engine.outbox import Ending
from raincheck.handler import Marking
from raincheck.operations.operation import Operation, Progress, Reason
from raincheck.operations.transitions import Ended
from raincheck.runners.leaving import native_exit

if TYPE_CHECKING:
    from raincheck.asgi.loops import Task

_MAKING = threading.Lock()  # a handler's thread and the loop may need the same deferral at once


class HandlerSide(Receiving):
    """Has a deferral as soon as anything is to be decided; the rest is with its subclass."""

    protocol = "asgi"
    is_rerun = False
    stopping: HandlerEnd | None = None

    candidate: Candidate
    deferral: Deferral | None
    task: Task
    started: bool
    over: bool

    def _is_over(self) -> bool:
        return self.over

    def ensure_deferral(self) -> Deferral:
        """Return what decides what becomes of this request; from any thread."""
        if (deferral := self.deferral) is None:
            with _MAKING:
                deferral = self.deferral = self.deferral or self._new_deferral()
        return deferral

    def _new_deferral(self) -> Deferral:
        return Deferral(
            self.gateway,
            self.candidate,
            self.arrived["method"],
            self.route,
            self,
            lock=threading.RLock(),
            # Methods: a `partial` of each would take a KiB, for as long as the operation runs.
            wake=self._wake_anywhere,
            stop=self._stop_anywhere,
            ask_again=self._find_owner_anywhere,
            is_answered=self.started or self.over,
        )

    def _wake_anywhere(self) -> None:
        self.loop.call(self._wake)

    def _stop_anywhere(self) -> None:
        self.loop.call(self.stop)

    @property
    def operation(self) -> Operation | None:
        """What the request has become, if it was deferred."""
        return None if self.deferral is None else self.deferral.operation

    @property
    def operation_id(self) -> str | None:
        """The operation's id, once there is one."""
        return self.operation.id if self.operation else None

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the response any more."""
        return self.deferral is not None and self.deferral.is_cancelled

    @property
    def is_stranded(self) -> bool:
        """Whether it will never go on: its event loop has ended before it."""
        return self.loop.has_ended

    @property
    def sign(self) -> object:
        """What the scope that the application is given has under `REQUEST`."""
        return self.arrived

    def is_here(self) -> bool:
        """Tell whether this is the very task of its handler, which may be deferred."""
        task = getattr(self, "task", None)  # one that begins eagerly is not known yet
        may_be = self.capture is not None or not self.started
        return may_be and (task is None or self.loop.is_in(task))

    def defer(self, marking: Marking) -> None:
        """Have the request answered 202, unless it has been answered or is over."""
        self.ensure_deferral().defer(marking)

    def hand_over(
        self, marking: Marking, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> BaseException | None:
        """Have workers run the handler; see `Deferrable`."""
        if is_left_alone(self.gateway.engine.policy, self.arrived):
            self.defer(marking)
        elif self.ensure_deferral().hand_over(marking):
            return native_exit(args, kwargs, self.scope)
        return None

    def report(self, progress: Progress) -> None:
        """Keep a handler's progress until there is an operation, then pass it on."""
        self.ensure_deferral().report(progress)

    def enter(self) -> None:
        """Take note that a sync handler begins."""
        self._end().enter()

    def leave(self) -> None:
        """Take note that a sync handler has ended."""
        self._end().leave()

    def request_cancel(self) -> None:
        """Have the handler stopped, from any thread."""
        self.ensure_deferral().request_cancel()

    def give_up(self, reason: Reason) -> None:
        """End the operation without a response, and have the handler stopped; may block."""
        self.ensure_deferral().give_up(reason)
        if self.is_stranded:
            if self.operation is None:
                self._give_up_unheard(reason)
            self.gateway.running.release(self)

    def _give_up_unheard(self, reason: Reason) -> None:
        """End what a thread has recorded when there was no loop any more to hear of it."""
        engine = self.gateway.engine
        for running in engine.running.all():
            if running.run is self:
                engine.finish(running.operation, Ending(Ended(reason)))

    def stop(self) -> None:
        """Have the handler stopped, from the loop's thread."""
        self.ensure_deferral().is_cancelled = True
        end = self._end()
        if not end.is_requested and not self.over and hasattr(self, "task"):
            end.is_requested = True
            # Not the task of now: a re-run goes on in another one.
            self.loop.spawn(end.carry_out(lambda: self.task, self._is_over))

    def abort(self) -> None:
        """Cancel the application's task, whatever it waits for: the process is about to end."""
        self._end().give_up()
        if not self.over:
            self.task.cancel()

    def _end(self) -> HandlerEnd:
        # setdefault is atomic: a handler's thread and the loop may come here at once.
        if self.stopping is None:
            return cast(HandlerEnd, self.__dict__.setdefault("stopping", HandlerEnd(self.loop)))
        return self.stopping

    def _find_owner_anywhere(self) -> None:
        self.loop.call(self._find_owner_soon)

    def _find_owner_soon(self) -> None:
        self.loop.spawn(self._find_owner())

    async def _find_owner(self, *, is_last: bool = False) -> None:
        """Have the owner asked for again, while the operation is nobody's."""
        deferral = self.ensure_deferral()
        if not deferral.is_nobodys:
            return
        reason = await self.loop.ask(partial(deferral.find_owner, is_last=is_last))
        if reason is not None:
            await self.loop.record(self.give_up, reason)
