"""The one place that orders effects: every gateway talks to a `Raincheck`, and only it to a store.

All methods are synchronous and thread-safe and may block on the store. Rules are not here: what an
operation becomes says `operation`.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from raincheck.backlog import Backlog, Ending, defect
from raincheck.contracts import Filter, Liveness, Run, Store
from raincheck.errors import (
    BodyMissing,
    InvalidTransition,
    Overloaded,
    StoreUnavailable,
    abbreviate,
)
from raincheck.flights import Flight, each
from raincheck.health import Health
from raincheck.heartbeat import Heartbeat
from raincheck.operation import (
    CLAIMED,
    TERMINAL,
    CancelRequested,
    Claimed,
    Ended,
    Event,
    Forgotten,
    Operation,
    Progress,
    Reason,
    Renewed,
    Responded,
    State,
    advance,
    is_abandoned,
)
from raincheck.options import Settings

logger = logging.getLogger("raincheck")

CHUNK_SIZE = 256 * 1024  # bytes: few enough transactions per GiB, little enough memory per handler
LEASE = 30.0  # seconds
# Seconds that a store has answered before leases tell who is gone. It takes those who live up to
# about ten to notice that it is back (their last call may hang for so long), and a beat to renew.
STEADY = LEASE / 2
MEMORY = 86_400.0  # seconds for which an id that is gone is answered 410 and not 404
_BATCH = 100
_ATTEMPTS = 50  # races a change may lose; each loss means that another one won


class Raincheck:
    """Accepts, finishes, cancels, recovers and purges operations.

    Args:
        settings: The options; its `store` is not looked at.
        store: Where operations are kept.
        new_id: Returns an id with at least 128 random bits.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        new_id: Callable[[], str] = lambda: secrets.token_hex(16),
        sleep: Callable[[float], None] = lambda seconds: time.sleep(seconds),  # gevent patches it
    ) -> None:
        self.settings = settings
        self.store = store
        self.limits = settings.effective_limits()
        self.health = Health()
        self.heartbeat = Heartbeat(self)
        self._new_id = new_id
        self._sleep = sleep
        self._worker = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._liveness = store if isinstance(store, Liveness) else None
        self.chunk_size: int = getattr(store, "chunk_size", CHUNK_SIZE)
        # By process: a fork has none of the handlers, and must not speak for them.
        self._flights_of: dict[int, dict[str, Flight]] = {}
        self._backlog_of: dict[int, Backlog] = {}

    # --- the life of an operation --------------------------------------------------------------

    @property
    def _flights(self) -> dict[str, Flight]:
        return self._flights_of.setdefault(os.getpid(), {})

    @property
    def _backlog(self) -> Backlog:
        return self._backlog_of.setdefault(os.getpid(), Backlog())

    @property
    def is_full(self) -> bool:
        """Whether as many operations are in flight in this process as may be."""
        return len(self._flights) >= self.limits.operations

    @property
    def is_cut_off(self) -> bool:
        """Whether the store fails, and as many requests go on synchronously for it as may."""
        health = self.health
        return not health.takes_operations and health.staying >= self.limits.synchronous

    def accept(
        self, run: Run, *, method: str, route: str, owner: str | None, progress: Progress | None
    ) -> Operation:
        """Record an operation that `run` works on; once this returns, a 202 may leave.

        Raises:
            Overloaded: Too many are in flight.
            StoreError: It could not be recorded; or it was, and the store's answer was lost: then
                nobody hears its id, and its lease ends it.
        """
        if self.is_full:
            raise Overloaded(self.limits.operations)
        with self.health.accepting():
            now = self.store.now()
            fresh = Operation(
                id=self._new_id(),
                state=State.ACCEPTED,
                created=now,
                updated=now,
                retention=self.settings.retention,
                method=method,
                route=route,
                owner=owner,
                progress=progress,
            )
            return self._begin(run, advance(fresh, Claimed(self._worker_name(), LEASE), now))

    def _begin(self, run: Run, operation: Operation) -> Operation:
        self.heartbeat.ensure()
        # In flight before it is in the store, or this process's own recovery might end it.
        self._flights[operation.id] = Flight(operation, run, time.monotonic())
        try:
            self.store.create(operation)
        except BaseException:
            del self._flights[operation.id]
            raise
        return operation

    def report(self, operation: Operation, progress: Progress) -> None:
        """Take a handler's progress; the next beat writes it."""
        flight = self._flights.get(operation.id)
        if flight is not None:
            flight.news = progress

    def write(self, operation: Operation, n: int, data: bytes) -> None:
        """Write a chunk of the handler's response; if the store fails now, the heartbeat does it.

        Raises:
            StoreError: It will never be written.
        """
        if not self._must_wait(operation):
            try:
                with self.health.noticing():
                    self._write(operation, n, data)
                return
            except StoreUnavailable as error:
                logger.error("the response of %s is kept back: %s", _shown(operation), error)
        self._backlog.keep(operation, n, data)

    def _must_wait(self, operation: Operation) -> bool:
        """Tell whether the backlog is the place for what comes of an operation now."""
        return operation.id in self._backlog or self.health.is_failing

    def _write(self, operation: Operation, n: int, data: bytes) -> None:
        self.store.write_chunk(operation.id, operation.fence, n, data)

    def finish(self, operation: Operation, ending: Ending) -> None:
        """Record how an operation ended; if the store fails now, the heartbeat does it later.

        Nothing is recorded if another process has ended or claimed it meanwhile.
        """
        flight = self._flights.get(operation.id)
        if flight is not None:
            ending = flight.end(ending)
        try:
            if self._must_wait(operation):
                self._backlog.end(operation, ending)
            else:
                with self.health.noticing():
                    self._record(operation, ending)
        except Exception as error:
            self._backlog.end(operation, ending)
            text = "operation %s ended but is not recorded yet: %s"
            logger.error(text, _shown(operation), error, exc_info=defect(error))
        finally:
            self._flights.pop(operation.id, None)

    def _record(self, operation: Operation, ending: Ending) -> None:
        if ending.last is not None:
            self._write(operation, *ending.last)
        event = self._if_whole(operation, ending.event) if ending.is_doubtful else ending.event
        ended = self._change(operation.id, event, fence=operation.fence)
        if ended is None:
            ended = self.store.get(operation.id)
            if ended is None:
                self._make_again(operation)
                event = self._if_whole(operation, event)
                ended = self._change(operation.id, event, fence=operation.fence)
            elif not replace(ending, event=event).has_made(ended, operation.fence):
                logger.warning("operation %s had been ended by others", _shown(operation))
                return
        if ended is not None and ended.result is None:
            self.store.discard(operation.id)

    def _make_again(self, operation: Operation) -> None:
        """Record anew an operation of this process that the store has lost.

        A server that took over may know nothing of it, and its 202 is a promise all the same.
        """
        self.store.create(replace(operation, lease=self.store.now() + LEASE))
        logger.error("the store has lost operation %s: recorded again", _shown(operation))

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
        changed = self._change(operation_id, CancelRequested())
        flight = self._flights.get(operation_id)
        if flight is not None:
            flight.run.request_cancel()
        return changed

    def forget(self, operation_id: str) -> Operation | None:
        """Give up a terminal operation's response; that there was one is known for a day more."""
        changed = self._change(operation_id, Forgotten(MEMORY))
        if changed is not None:
            self.store.discard(operation_id)
        return changed

    def _change(
        self, operation_id: str, event: Event, fence: int | None = None
    ) -> Operation | None:
        """Let `event` happen to the stored operation, whoever else changes it at the same time.

        Returns:
            What it became; None if it is gone, has another fence, or the event can't happen to it.
        """
        for _ in range(_ATTEMPTS):
            stored = self.store.get(operation_id)
            if stored is None or (fence is not None and stored.fence != fence):
                return None
            try:
                changed = advance(stored, event, self.store.now())
            except InvalidTransition:
                return None
            if self.store.swap(stored, changed):
                return changed
        raise StoreUnavailable(f"operation {abbreviate(operation_id)} changes too often")

    def look(self, operation_id: str) -> Operation | None:
        """Return an operation as it is now: one that nobody runs any more is ended first."""
        operation = self.store.get(operation_id)
        if operation is not None and self._is_abandoned(operation):
            self._interrupt(operation)
            return self.store.get(operation_id) or operation
        return operation

    # --- what the heartbeat does ---------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether operations run in this process or wait to be recorded."""
        return bool(self._flights or self._backlog)

    def beat(self) -> None:
        """Renew leases, carry progress up and cancellations down, record what waits."""
        if not self.is_busy:
            return
        with self.health.noticing():
            each(lambda step: step(), (self._renew_all, self._heed_cancels, self._hand_over))

    def _renew_all(self) -> None:
        each(self._renew, list(self._flights.values()))

    def _heed_cancels(self) -> None:
        if not self._flights:
            return
        wanted = Filter(states=frozenset({State.CANCELLING}), worker=self._worker_name())
        for operation in self._find_all(wanted):
            if (flight := self._flights.get(operation.id)) is not None:
                flight.run.request_cancel()

    def _hand_over(self) -> None:
        self._backlog.hand_over(self._write, self._record)

    def _renew(self, flight: Flight) -> None:
        """Write progress if there is any, and the lease if time is all that tells who lives."""
        # A store that was away may have come back without it.
        was_away = flight.renewed < self.health.last_failure
        due = was_away or time.monotonic() - flight.renewed > LEASE / 3
        if flight.news is None and (not due or self._liveness):
            return
        news = flight.news
        operation, renewed = flight.operation, Renewed(LEASE, news)
        if self._change(operation.id, renewed, fence=operation.fence) is None:
            self._save(flight)
        flight.renewed = time.monotonic()
        if flight.news is news:
            flight.news = None

    def _save(self, flight: Flight) -> None:
        """Record it anew if the store has lost it; if others have ended it, have it stop."""
        with flight.lock:  # or its end would not know of the loss
            if flight.is_over:
                return
            if self.store.get(flight.operation.id) is None:
                flight.is_doubtful = True  # first: the answer of what follows may be lost
                self._make_again(flight.operation)
                return
        flight.run.request_cancel()

    def recover(self) -> int:
        """End the operations that nobody runs any more; return how many."""
        with self.health.noticing():
            now = self.store.now()
            # Where only leases tell, few have run out.
            lease_before = None if self._liveness else now
            claimed = list(self._find_all(Filter(states=CLAIMED, lease_before=lease_before)))
        self.health.note_answer(now)
        return sum(each(self._interrupt, (o for o in claimed if self._is_abandoned(o))))

    def purge(self) -> int:
        """Forget responses that are no longer promised, delete old memories; return how many."""
        deleted = 0
        while batch := self.store.purge(self.store.now()):
            deleted += batch
        expired = Filter(states=TERMINAL, expires_before=self.store.now(), forgotten=False)
        each(lambda operation: self.forget(operation.id), self._find_all(expired))
        return deleted

    def close(self) -> None:
        """Stop the heartbeat, record what waits, and release what the store has opened."""
        self.heartbeat.stop()
        end, failure = time.monotonic() + self.settings.drain, None
        while self._backlog:
            try:
                self._hand_over()
            except Exception as error:
                failure = error
            if self._backlog and time.monotonic() > end:
                logger.error("%d operations end unrecorded: %s", len(self._backlog), failure)
                break
            self._sleep(0.5 if failure else 0)
        self.store.close()

    def _find_all(self, which: Filter) -> Iterator[Operation]:
        cursor = None
        while True:
            page, cursor = self.store.find(which, limit=_BATCH, cursor=cursor)
            yield from page
            if cursor is None:
                return

    def _is_abandoned(self, operation: Operation) -> bool:
        if operation.id in self._flights or operation.id in self._backlog:
            return False
        now = self.store.now()
        if self._liveness is None:
            # While the store was away nobody could renew: those who live do so first.
            return self.health.is_steady(now, STEADY) and is_abandoned(operation, now, None)
        worker = operation.worker
        lives = self._liveness.lives(worker) if worker and not operation.is_terminal else None
        return is_abandoned(operation, now, lives)

    def _interrupt(self, operation: Operation) -> bool:
        ended = self._change(operation.id, Ended(Reason.INTERRUPTED), fence=operation.fence)
        if ended is None:
            return False
        self.store.discard(operation.id)
        logger.warning("operation %s was interrupted: its process is gone", _shown(operation))
        return True

    def _worker_name(self) -> str:
        return self._liveness.incarnation() if self._liveness else self._worker


def _shown(operation: Operation) -> str:
    return f"{abbreviate(operation.id)} ({operation.method} {operation.route!r})"
