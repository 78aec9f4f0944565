"""The one place that orders effects: every gateway talks to a `Raincheck`, and only it to a store.

All methods are synchronous and thread-safe and may block on the store. Rules are not here: what an
operation becomes says `operation`.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

from raincheck.config.options import Settings
from raincheck.engine.accepting import Accepting
from raincheck.engine.captured_request import CapturedRequests
from raincheck.engine.encryption import sealing_with
from raincheck.engine.heartbeat import Heartbeat
from raincheck.engine.identity import Application, place_of
from raincheck.engine.leases import Leases
from raincheck.engine.looking import Looking
from raincheck.engine.outbox import Ending, Outbox, if_unexpected
from raincheck.engine.process import Process
from raincheck.engine.purging import Purge
from raincheck.engine.queues import Queues
from raincheck.engine.recovery import Recovery
from raincheck.engine.running import Run, each
from raincheck.engine.start import Accepted, Start
from raincheck.engine.webhooks import Webhooks
from raincheck.errors import BodyMissing, StoreUnavailable
from raincheck.handler import Marking
from raincheck.operations.operation import Operation, Owned, Progress, Reason, State
from raincheck.operations.store import Store
from raincheck.operations.transitions import (
    CancelRequested,
    Ended,
    Event,
    Forgotten,
    Responded,
    after_loss,
)

logger = logging.getLogger("raincheck")

CHUNK_SIZE = 256 * 1024  # bytes: few enough transactions per GiB, little enough memory per handler
MEMORY = 86_400.0  # seconds for which an id that is gone is answered 410 and not 404


class Engine:
    """Accepts, finishes, cancels, recovers and purges operations.

    Args:
        settings: The options; its `store` is not looked at.
        store: Where operations are kept.
        kind: Of middleware that this is for.
        wrapped: Returns what that is around; called late.
        new_id: Returns an id with at least 128 random bits.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        kind: str = "",
        wrapped: Callable[[], object] | None = None,
        *,
        new_id: Callable[[], str] = lambda: secrets.token_hex(16),
        sleep: Callable[[float], None] = lambda seconds: time.sleep(seconds),  # gevent patches it
    ) -> None:
        self.settings = settings
        self.store = store
        told, place = settings.application, place_of(settings.store, store)
        application = Application(told, kind, settings.prefix, wrapped, place)
        self.application = application
        process = self._process = Process(settings, store, application)
        if process.liveness is None:  # so processes of other machines may use it
            application.warn_if_unnamed()
        self.limits, self.policy = process.limits, process.policy
        self.health, self.repository = process.health, process.repository
        self.running, self.durations = process.running, process.durations
        self.heartbeat = Heartbeat(self)
        self.webhooks = Webhooks(process)
        self.chunk_size: int = getattr(store, "chunk_size", CHUNK_SIZE)
        requests = CapturedRequests(store, self.chunk_size, sealing_with(settings.encryption_key))
        self.recovery = Recovery(process, requests)
        self.queues = Queues(process, self.recovery)
        self.leases = Leases(process, self.cancel)
        self._looking = Looking(
            process, self.recovery, self.leases, recover_soon=lambda: self.heartbeat.recover_soon()
        )
        self._accepting = Accepting(
            process,
            requests,
            ensure_heartbeat=lambda: self.heartbeat.ensure(),
            let_go=self.recovery.let_go_of,
            queues=self.queues,
            new_id=new_id,
        )
        self.admission = self._accepting.admission
        self.is_warned_of_keys = False  # that come with nothing that says whose they are
        self._sleep = sleep
        self._purge = Purge(store, self.forget, sleep)

    # --- the life of an operation --------------------------------------------------------------

    @property
    def _outbox(self) -> Outbox:
        return self._process.outbox

    @property
    def is_full(self) -> bool:
        """Whether as many operations are in flight in this process as may be."""
        return self.admission.is_full

    @property
    def is_cut_off(self) -> bool:
        """Whether the store fails, and as many requests go on synchronously for it as may."""
        health = self.health
        return not health.takes_operations and health.staying >= self.limits.synchronous

    def accept(self, run: Run, start: Start) -> Accepted:
        """Record an operation that `run` works on; see `Accepting`."""
        return self._accepting.accept(run, start)

    def mark(self, operation: Operation, marking: Marking, *, in_time: bool = False) -> None:
        """Take what a handler says of itself after its operation was accepted; see `Accepting`."""
        self._accepting.mark(operation, marking, in_time=in_time)

    def may_need_again(self, method: str, route: str) -> bool:
        """Tell whether a request may have to be run again, as far as is known yet."""
        return self._accepting.may_need_again(method, route)

    def report(self, operation: Operation, progress: Progress) -> None:
        """Take a handler's progress; the next beat writes it."""
        running = self.running.of(operation)
        if running is not None:
            running.news = progress

    def is_nobodys(self, operation: Operation) -> bool:
        """Tell whether an operation that runs here has no owner, as far as is known yet."""
        running = self.running.of(operation)
        return running is not None and running.is_asked and running.operation.owner is None

    def is_unbound(self, operation: Operation) -> bool:
        """Tell whether it is not known yet whose an operation is that runs here."""
        running = self.running.of(operation)
        return running is not None and running.operation.unbound

    def own(self, operation: Operation, owner: str | None) -> None:
        """Take note of whose an operation is; the next beat writes it, or its end.

        Raises:
            Overloaded: It is one too many of this owner's.
        """
        running = self.running.of(operation)
        if running is None or running.operation.owner is not None:
            return
        if owner is None and not running.operation.unbound:
            return
        running.own(Owned(owner))
        if owner is not None:
            self.admission.check_owner(owner)
            self.admission.count(owner)

    def write(self, operation: Operation, n: int, data: bytes) -> None:
        """Write a chunk of the handler's response; if the store fails now, the heartbeat does it.

        Raises:
            StoreError: It will never be written.
        """
        if not self._must_wait(operation):
            try:
                with self.health.noticing():
                    self._do(operation, lambda: self._write(operation, n, data))
                return
            except StoreUnavailable as error:
                logger.error("the response of %s is kept back: %s", operation.shown, error)
        self._outbox.keep(operation, n, data)

    def _must_wait(self, operation: Operation) -> bool:
        """Tell whether the outbox is the place for what comes of an operation now."""
        return operation.id in self._outbox or self.health.is_failing

    def _do(self, operation: Operation, work: Callable[[], None]) -> None:
        """Do it; where a client waits for the response itself, it is not kept waiting."""
        running = self.running.of(operation)
        if running is not None and running.is_attended:
            self.health.writes.run(work)
        else:
            work()

    def _write(self, operation: Operation, n: int, data: bytes) -> None:
        self.store.write_chunk(operation.id, operation.fence, n, data)

    def finish(self, operation: Operation, ending: Ending) -> None:
        """Record how an operation ended; if the store fails now, the heartbeat does it later.

        Nothing is recorded if another process has ended or claimed it meanwhile.
        """
        running = self.running.of(operation)
        if running is not None:
            ending = running.end(ending)
        try:
            if self._must_wait(operation):
                self._outbox.end(operation, ending)
            else:
                with self.health.noticing():
                    self._do(operation, lambda: self._record(operation, ending))
        except Exception as error:
            self._outbox.end(operation, ending)
            text = "operation %s ended but is not recorded yet: %s"
            logger.error(text, operation.shown, error, exc_info=if_unexpected(error))
        finally:
            if running is None or not running.lingers:
                self.running.drop(running)

    def leave_alone(self, operation: Operation) -> None:
        """Take note that nobody waits for the response itself any longer: the 202 leaves."""
        running = self.running.of(operation)
        if running is not None:
            running.leave_alone()

    def land(self, operation: Operation) -> None:
        """Take note that a handler is over, whose operation may have been ended before."""
        self.running.drop(self.running.of(operation))

    def _record(self, operation: Operation, ending: Ending) -> None:
        event, last, running = ending.event, ending.last, self.running.of(operation)
        if ending.is_doubtful:
            if last is not None:
                self._write(operation, *last)
            event, last = self._if_whole(operation, event), None
        change = partial(self.repository.change, operation.id, fence=operation.fence)
        known = None if running is None else running.known
        end = self._end_by(event)
        ended = change(end, drop_dedupe=ending.lets_go, known=known, last=last)
        if ended is not None and running is not None and running.tells_duration:
            self.durations.learn(ended)
        if ended is None:
            ended = self.store.get(operation.id)
            if ended is None:
                if last is not None:
                    self._write(operation, *last)
                self.repository.record_again(operation, self._process.lease)
                event = self._if_whole(operation, event)
                ended = change(event)
            elif not replace(ending, event=event).has_made(ended, operation.fence):
                logger.warning("operation %s had been ended by others", operation.shown)
        self._settle(ended)

    def _settle(self, ended: Operation | None) -> None:
        """Do what an end brings with it."""
        if ended is None or not ended.is_terminal:
            return
        self._process.clear(ended)
        if ended.webhook is not None:
            self.webhooks.wake()

    def _end_by(self, event: Responded | Ended) -> Callable[[Operation], Event | None]:
        def end(stored: Operation) -> Event | None:
            if stored.state is State.ACCEPTED:  # others have let it go: it is not ours to end
                return None
            if isinstance(event, Ended) and event.reason is Reason.SHUTDOWN:
                return after_loss(stored, event.reason, self.settings.max_attempts)
            return event

        return end

    def _if_whole(self, operation: Operation, event: Responded | Ended) -> Responded | Ended:
        """Return the event if the store has the response's first chunk, without which it is lost.

        It was written before the others: what a loss has left of them is no response.
        """
        if isinstance(event, Ended) or not event.result.length:
            return event
        try:
            next(self.store.read_chunks(operation.id, operation.fence, 0, 1))
            return event
        except BodyMissing:
            return Ended(Reason.RESPONSE_LOST, event.progress)

    def cancel(self, operation_id: str) -> Operation | None:
        """Ask for an operation to be stopped; in another process its heartbeat will see it."""
        changed = self.repository.change(operation_id, CancelRequested())
        running = self.running.get(operation_id)
        if running is not None:
            running.cancel()
        self._settle(changed)
        return changed

    def forget(self, operation_id: str) -> Operation | None:
        """Give up a terminal operation's response; that there was one is known for a day more."""
        operation = self.store.get(operation_id)
        if operation is None or not operation.is_terminal or operation.forgotten:
            return None
        self.store.discard(operation_id)  # first: nobody would for a process that is killed here
        return self.repository.change(operation_id, Forgotten(MEMORY))

    def look(self, operation_id: str) -> Operation | None:
        """Return an operation as it is now; see `Looking`."""
        return self._looking.look(operation_id)

    def glance(self, operation_id: str) -> Operation | None:
        """Return an operation if nothing has to be waited for or done for that; see `Looking`."""
        return self._looking.glance(operation_id)

    @property
    def gathers(self) -> bool:
        """Whether it takes no longer to look at many operations than at one."""
        return self._looking.gathers

    def gather(self, operation_ids: Collection[str]) -> Mapping[str, Operation]:
        """Return operations for which nothing has to be done, by their ids; see `Looking`."""
        return self._looking.gather(operation_ids)

    def glance_at_chunk(self, operation_id: str, fence: int, n: int) -> bytes | None:
        """Return a chunk of a response if nothing has to be waited for; see `Looking`."""
        return self._looking.glance_at_chunk(operation_id, fence, n)

    def note_poll(self, operation: Operation) -> None:
        """Take note that somebody still wants an operation, where that counts."""
        self._looking.note_poll(operation)

    # --- what the heartbeat does ---------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether operations run in this process or wait to be recorded."""
        return self._process.is_busy

    def beat(self) -> None:
        """Renew leases, carry progress up and cancellations down, record what waits."""
        leases = self.leases
        leases.notice_freezes()
        if not self.is_busy:
            return
        steps = (leases.renew_all, leases.heed_cancels, leases.stop_unwanted, self._hand_over)
        try:
            with self.health.noticing():
                each(lambda step: step(), steps)
        finally:  # whether there is a store or not
            leases.give_up_stranded()
            leases.stop_late()

    def _hand_over(self) -> None:
        self._outbox.hand_over(self._write, self._record)

    def recover(self) -> int:
        """Let go of what nobody runs any more, and run here what waits; return how many."""

        def take_up() -> int:
            if self.queues.served is not None:  # a worker is for what waits in its queues
                return 0
            with self.health.noticing():
                return self.recovery.take_up(self.limits.operations - len(self.running))

        steps = (self.recovery.let_go, take_up, self.queues.look, self.webhooks.look_for_due)
        let_go = each(lambda step: step(), steps)[0]
        if self.recovery.has_more:
            self.heartbeat.recover_soon()
        return let_go or 0

    def purge(self) -> bool:
        """Delete old memories, and forget responses that are no longer promised, for a second.

        Returns:
            False if some are left; whoever does it has leases to renew, too.
        """
        return self._purge.turn()

    def share(self) -> None:
        """Tell other processes what was learned of durations here, and hear of theirs."""
        if not self.health.is_failing:  # or leases would be waiting behind it
            self.durations.share()

    def close(self) -> None:
        """Stop the heartbeat, record what waits, and release what the store has opened."""
        self.heartbeat.stop()
        end, unsettled = time.monotonic() + self.settings.drain, self.queues.unsettled
        while self._outbox or unsettled:
            failure: Exception | None = None
            try:
                each(lambda step: step(), (self._hand_over, unsettled.settle))
            except Exception as error:
                failure = error
            if failure is None and not self._outbox:
                break  # what is still unsettled may never have been recorded
            if time.monotonic() > end:
                left = len(self._outbox) + len(unsettled)
                logger.error("%d operations end unrecorded: %s", left, failure)
                break
            self._sleep(0.5 if failure else 0)
        if not self.health.is_failing:
            self.durations.share_rest()
        self.webhooks.close()
        self.store.close()
