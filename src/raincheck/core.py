"""The one place that orders effects: every gateway talks to a `Raincheck`, and only it to a store.

All methods are synchronous and thread-safe and may block on the store. Rules are not here: what an
operation becomes says `operation`, what a client sees says `monitor`.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from raincheck import monitor
from raincheck.contracts import Filter, Liveness, Run, Store
from raincheck.dialects import DIALECTS
from raincheck.errors import (
    InvalidTransition,
    Overloaded,
    StoreError,
    StoreUnavailable,
    abbreviate,
)
from raincheck.heartbeat import Heartbeat
from raincheck.links import Resource, local_path, locate
from raincheck.messages import Request, Response, StoredBody
from raincheck.monitor import View
from raincheck.operation import (
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
    is_expired,
)
from raincheck.options import Settings

logger = logging.getLogger("raincheck")

CHUNK_SIZE = 256 * 1024  # bytes: few enough transactions per GiB, little enough memory per handler
LEASE = 30.0  # seconds
MEMORY = 86_400.0  # seconds for which an id that is gone is answered 410 and not 404
PATIENCE = 30.0  # seconds that a handler's response waits for a store that fails
STORE_RETRY_AFTER = 5  # seconds, for a client whose poll met a store that fails
_BATCH = 100
_ATTEMPTS = 50  # races a change may lose; each loss means that another one won


@dataclass(frozen=True, slots=True)
class Poll:
    """A request to the status monitor.

    Attributes:
        owner: The principal it comes from.
        path: Where R lies, root path included; None: below the configured prefix.
    """

    request: Request
    operation_id: str
    resource: Resource
    owner: str | None = None
    path: str | None = None


@dataclass(slots=True)
class _Flight:
    """An operation whose handler runs in this process."""

    operation: Operation
    run: Run
    renewed: float
    news: Progress | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an operation ended, and the last chunk of its body, not yet written.

    Attributes:
        last: The chunk's number and bytes; None where there is none.
    """

    event: Responded | Ended
    last: tuple[int, bytes] | None = None


class Raincheck:
    """Accepts, finishes, shows, cancels, recovers and purges operations.

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
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.store = store
        self.limits = settings.effective_limits()
        self.heartbeat = Heartbeat(self)
        self._new_id = new_id
        self._sleep = sleep
        self._dialect = DIALECTS[settings.dialect]
        self._worker = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._liveness = store if isinstance(store, Liveness) else None
        self._flights: dict[str, _Flight] = {}
        self._unrecorded: dict[str, tuple[Operation, Ending]] = {}

    # --- the life of an operation --------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether as many operations are in flight in this process as may be."""
        return len(self._flights) >= self.limits.operations

    def accept(
        self, run: Run, *, method: str, route: str, owner: str | None, progress: Progress | None
    ) -> Operation:
        """Record an operation that `run` works on; once this returns, a 202 may leave.

        Raises:
            Overloaded: Too many are in flight.
            StoreError: It could not be recorded; then there is no operation.
        """
        if self.is_full:
            raise Overloaded(self.limits.operations)
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
        operation = advance(fresh, Claimed(self._worker_name(), LEASE), now)
        # In flight before it is in the store, or this process's own recovery might end it.
        self._flights[operation.id] = _Flight(operation, run, time.monotonic())
        try:
            self.store.create(operation)
        except BaseException:
            del self._flights[operation.id]
            raise
        self.heartbeat.ensure()
        return operation

    def report(self, operation: Operation, progress: Progress) -> None:
        """Take a handler's progress; the next beat writes it."""
        flight = self._flights.get(operation.id)
        if flight is not None:
            flight.news = progress

    def write(self, operation: Operation, n: int, data: bytes) -> None:
        """Write a chunk of the handler's response, waiting for a store that fails.

        Raises:
            StoreError: It still fails after 30 s.
        """
        deadline, pause = time.monotonic() + PATIENCE, 0.1
        while True:
            try:
                self.store.write_chunk(operation.id, operation.fence, n, data)
                return
            except StoreUnavailable:
                if time.monotonic() + pause > deadline:
                    raise
                self._sleep(pause)
                pause = min(2 * pause, 5.0)

    def finish(self, operation: Operation, ending: Ending) -> None:
        """Record how an operation ended; if the store fails now, the heartbeat does it later.

        Nothing is recorded if another process has ended or claimed it meanwhile.
        """
        flight = self._flights.get(operation.id)
        if flight is not None and flight.news is not None:
            ending = replace(ending, event=replace(ending.event, progress=flight.news))
            flight.news = None
        try:
            self._record(operation, ending)
        except StoreError as error:
            self._unrecorded[operation.id] = (operation, ending)
            logger.error("operation %s ended but is not recorded yet: %s", _shown(operation), error)
        self._flights.pop(operation.id, None)

    def _record(self, operation: Operation, ending: Ending) -> None:
        if ending.last is not None:
            self.store.write_chunk(operation.id, operation.fence, *ending.last)
        changed = self._change(operation.id, ending.event, fence=operation.fence)
        if changed is None:
            logger.warning("operation %s had been ended by another process", _shown(operation))
        elif changed.result is None:
            self.store.discard(operation.id)

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

    # --- what clients see ----------------------------------------------------------------------

    def started(
        self, operation: Operation, request: Request, applied: str | None, path: str | None = None
    ) -> Response:
        """Return the 202 for the request that became this operation."""
        return monitor.started(self._view(operation, request, path), applied)

    def respond(self, poll: Poll) -> Response:
        """Answer a request to the status monitor; never raises for a store that fails."""
        self.heartbeat.ensure()
        if poll.request.method not in monitor.ALLOWED[poll.resource]:
            return monitor.method_not_allowed(poll.resource)
        try:
            response = self._respond(poll)
        except StoreError as error:
            logger.error("a poll could not be answered: %s", error)
            return monitor.unavailable("Operations can't be read now.", STORE_RETRY_AFTER)
        return monitor.for_head(response) if poll.request.method == "HEAD" else response

    def _respond(self, poll: Poll) -> Response:
        operation = self.store.get(poll.operation_id)
        if operation is None or operation.owner not in (None, poll.owner):
            return monitor.not_found()
        if self._is_abandoned(operation):
            self._interrupt(operation)
            operation = self.store.get(poll.operation_id) or operation
        if poll.request.method == "DELETE" and not is_expired(operation, self.store.now()):
            end = self.forget if operation.is_terminal else self.cancel
            # None: it ended between the look and the step, so the other step is the right one.
            operation = end(operation.id) or self.forget(operation.id) or operation
            return monitor.deleted(self._view(operation, poll.request, poll.path))
        view = self._view(operation, poll.request, poll.path)
        return monitor.read(view, poll.resource, poll.request)

    def read(self, body: StoredBody) -> Iterator[bytes]:
        """Yield the bytes of a stored body, chunk by chunk.

        Raises:
            BodyMissing: The response was purged meanwhile.
        """
        size = body.chunk_size
        first, last = body.start // size, -(-body.stop // size)
        chunks = self.store.read_chunks(body.operation_id, body.fence, first, last)
        for n, chunk in enumerate(chunks, first):
            yield chunk[max(0, body.start - n * size) : body.stop - n * size]

    def _view(self, operation: Operation, request: Request, path: str | None) -> View:
        settings = self.settings
        path = path or local_path(request, settings.prefix, operation.id)
        links = locate(request, path, settings.location, settings.public_url)
        return View(operation, links, self._dialect, self.store.now(), settings.keep_cookies)

    # --- what the heartbeat does ---------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether operations run in this process or wait to be recorded."""
        return bool(self._flights or self._unrecorded)

    def beat(self) -> None:
        """Renew leases, carry progress up and cancellations down, record what waits."""
        if self._flights:
            for flight in list(self._flights.values()):
                self._renew(flight)
            wanted = Filter(states=frozenset({State.CANCELLING}), worker=self._worker_name())
            for operation in self._find_all(wanted):
                if operation.id in self._flights:
                    self._flights[operation.id].run.request_cancel()
        self._record_waiting()

    def _record_waiting(self) -> None:
        """Record endings that the store did not take; one that fails again holds up no other."""
        failure: StoreError | None = None
        for operation, ending in list(self._unrecorded.values()):
            try:
                self._record(operation, ending)
                self._unrecorded.pop(operation.id, None)
            except StoreError as error:
                failure = error
        if failure is not None:
            raise failure

    def _renew(self, flight: _Flight) -> None:
        """Write progress if there is any, and the lease if time is all that tells who lives."""
        due = time.monotonic() - flight.renewed > LEASE / 3
        if flight.news is None and (not due or self._liveness):
            return
        news = flight.news
        renewed = Renewed(LEASE, news)
        if self._change(flight.operation.id, renewed, fence=flight.operation.fence) is None:
            flight.run.request_cancel()  # ended by somebody else: nobody waits for this handler
        flight.renewed = time.monotonic()
        if flight.news is news:
            flight.news = None

    def recover(self) -> int:
        """End the operations that nobody runs any more; return how many."""
        in_flight = Filter(states=frozenset({State.RUNNING, State.CANCELLING}))
        return sum(
            self._interrupt(operation)
            for operation in self._find_all(in_flight)
            if self._is_abandoned(operation)
        )

    def purge(self) -> int:
        """Forget responses that are no longer promised, delete old memories; return how many."""
        expired = Filter(states=TERMINAL, expires_before=self.store.now(), forgotten=False)
        for operation in self._find_all(expired):
            self.forget(operation.id)
        deleted = 0
        while batch := self.store.purge(self.store.now()):
            deleted += batch
        return deleted

    def close(self) -> None:
        """Stop the heartbeat and release what the store has opened."""
        self.heartbeat.stop()
        self.store.close()

    def _find_all(self, which: Filter) -> Iterator[Operation]:
        cursor = None
        while True:
            page, cursor = self.store.find(which, limit=_BATCH, cursor=cursor)
            yield from page
            if cursor is None:
                return

    def _is_abandoned(self, operation: Operation) -> bool:
        if operation.id in self._flights or operation.id in self._unrecorded:
            return False
        lives = None
        if self._liveness and operation.worker and not operation.is_terminal:
            lives = self._liveness.lives(operation.worker)
        return is_abandoned(operation, self.store.now(), lives)

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
    return f"{abbreviate(operation.id)} ({operation.method} {operation.route})"
