"""From a request to an operation: within limits, recorded with what it may be run again from."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from hashlib import sha256

from raincheck.engine.admission import Admission
from raincheck.engine.captured_request import CapturedRequests
from raincheck.engine.errands import Pulse
from raincheck.engine.process import Process
from raincheck.engine.queues import Queues
from raincheck.engine.running import Run, RunningOperation
from raincheck.engine.start import Accepted, Captured, Key, Start
from raincheck.errors import (
    Overloaded,
    RaincheckError,
    StoreError,
    StoreUnavailable,
    WorkersUnavailable,
)
from raincheck.handler import UNMARKED, Marking, may_be_handed_over, may_be_repeatable
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, State, is_stale, with_changes
from raincheck.operations.transitions import Claimed, Marked, advance


class Accepting:
    """Makes operations of requests; the part of the engine that does so.

    Args:
        requests: Where requests that may be run again are kept.
        ensure_heartbeat: Has the heartbeat's thread run.
        let_go: Ends an operation of which nobody has heard.
        queues: Where operations wait for workers.
        new_id: Returns an id with at least 128 random bits.
    """

    def __init__(
        self,
        process: Process,
        requests: CapturedRequests,
        *,
        ensure_heartbeat: Callable[[], None],
        let_go: Callable[[Operation], object],
        queues: Queues,
        new_id: Callable[[], str],
    ) -> None:
        self.admission = Admission(
            process.limits,
            process.repository,
            process.running,
            application=lambda: process.application.name,
        )
        self._process = process
        self._store = process.store
        self._settings = process.settings
        self._running = process.running
        self._requests = requests
        self._policy = process.policy
        self._ensure_heartbeat = ensure_heartbeat
        self._let_go = let_go
        self._queues = queues
        self._new_id = new_id

    def accept(self, run: Run, start: Start) -> Accepted:
        """Record an operation that `run` works on; once this returns, a 202 may leave.

        Returns:
            The operation; under a key, the one that another request has become before.

        Raises:
            Overloaded: Too many are in flight.
            StoreError: It could not be recorded; or it was, and the store's answer was lost: then
                nobody hears its id, and it is ended.
            WorkersUnavailable: Those of its queue could not be told; it is ended.
        """
        # What the store has no part in comes first: it must not look like one that hangs.
        self._process.application.come_in_at(start.root_path)
        captured = self._capture(start)
        fresh = self._describe(start, captured)
        pulse, health = Pulse(), self._process.health
        with health.accepting():
            accepted = health.writes.run(
                lambda: self._accept(run, fresh, start, captured, pulse),
                late=self._take_back,
                left=partial(self._go_without, fresh),
                pulse=pulse,
            )
        self._check_is_kept(accepted.operation)
        if accepted.is_new and start.queue is not None:
            self._let_out(accepted.operation)
        elif not accepted.is_new:
            self._queues.join(accepted.operation)
        return accepted

    def _go_without(self, fresh: Operation, is_overdue: bool) -> None:
        self._process.note_unanswered(fresh)
        if is_overdue:
            self._process.health.note_refusal()

    def _let_out(self, operation: Operation) -> None:
        queues = self._queues
        try:
            queues.let_out(operation)
        except WorkersUnavailable:
            if self._process.health.writes.run(lambda: queues.unsettled.refuse(operation)):
                raise

    def _describe(self, start: Start, captured: Captured | None) -> Operation:
        return Operation(
            id=self._new_id(),
            state=State.ACCEPTED,
            created=0.0,
            updated=0.0,
            retention=self._settings.retention,
            method=start.method,
            route=start.route,
            owner=start.owner,
            queue=start.queue,
            not_before=start.not_before,
            unbound=self._is_unbound(start),
            progress=start.progress,
            repeatable=self._may_repeat(start, start.marking),
            captured=captured is not None,
            fingerprint=start.key.fingerprint if start.key else None,
            coalesced=start.key is not None and start.key.is_shared,
            application=self._process.application.at(start.root_path),
            code=self._process.application.code if captured is not None else None,
            webhook=start.webhook,
            form_token=secrets.token_urlsafe(16) if self._settings.html else None,
        )

    def _accept(
        self, run: Run, fresh: Operation, start: Start, captured: Captured | None, pulse: Pulse
    ) -> Accepted:
        holder = self._admit(start)
        if holder is not None:
            return Accepted(holder, is_new=False)
        now = self._store.now()
        fresh = with_changes(fresh, created=now, updated=now)
        if start.queue is not None:
            due = self._queues.due(start.queue, now, start.not_before, is_promised=False)
            return self._leave_to_workers(with_changes(fresh, lease=due), start, captured, pulse)
        return self._begin(run, fresh, start, captured, pulse)

    def _check_is_kept(self, operation: Operation) -> None:
        """Raise StoreUnavailable for what another request has become too late: it is taken back."""
        if self._process.is_unheard_of(operation):
            raise StoreUnavailable(f"operation {operation.shown} came too late and is taken back")

    def _take_back(self, accepted: Accepted) -> None:
        """End what was recorded when its request had gone on without."""
        if accepted.is_new and accepted.operation.queue is not None:
            unsettled = self._queues.unsettled
            unsettled.take_back(accepted.operation)  # should this fail, it is tried again
            unsettled.refuse(accepted.operation)
        elif accepted.is_new:
            self._running.drop(self._running.of(accepted.operation))
            self._process.note_unanswered(accepted.operation)
            self._let_go(accepted.operation)

    def _leave_to_workers(
        self, fresh: Operation, start: Start, captured: Captured | None, pulse: Pulse
    ) -> Accepted:
        """Record an operation that no handler here works on."""
        if captured is None:
            raise RaincheckError(
                "workers can't be told all of it: its body is gone, or only the server knows its "
                "user (REMOTE_USER, a client certificate)"
            )
        self._ensure_heartbeat()  # it may be this process that tells of it again
        request = self._requests.keep(fresh.id, captured, pulse.beat)
        if pulse.is_left:
            raise StoreError("nobody waits for it any more")
        try:
            stored = self._create(fresh, request, self._name(start.key) if start.key else None)
        except BaseException:
            self._queues.unsettled.take_back(fresh)
            raise
        if stored.id != fresh.id:
            self._store.discard(fresh.id)
            return Accepted(stored, is_new=False)
        self.admission.count(start.owner)
        return Accepted(stored)

    def _admit(self, start: Start) -> Operation | None:
        """Look at the limits; over them return what another request has become under the key.

        Raises:
            Overloaded: Nothing has.
        """
        try:
            self.admission.check(start.owner, runs_here=start.queue is None)
        except Overloaded:
            holder = self._store.holder(self._name(start.key)) if start.key is not None else None
            if holder is None or self._is_over(holder, start.owner):
                raise
            return holder
        return None

    def _is_unbound(self, start: Start) -> bool:
        """Tell whether it may still turn out whose it is: authentication may not have run yet."""
        return self._settings.owner is not None and start.owner is None and not start.is_reached

    def _may_repeat(self, start: Start | Operation, marking: Marking) -> bool:
        return self._policy.may_repeat(start.method, start.route, marking.retry)

    def _capture(self, start: Start) -> Captured | None:
        is_needed = self.may_need_again(start.method, start.route, start.marking)
        return start.capture() if is_needed or start.queue is not None else None

    def may_need_again(self, method: str, route: str, marking: Marking = UNMARKED) -> bool:
        """Tell whether a request may have to be run again, as far as is known yet.

        A handler that has not been called may be marked `retry=True`.
        """
        if not marking.is_said and may_be_handed_over():
            return True
        if not marking.is_said and marking.retry is None and may_be_repeatable():
            marking = Marking(retry=True)
        return self._policy.may_repeat(method, route, marking.retry)

    def _begin(
        self, run: Run, fresh: Operation, start: Start, captured: Captured | None, pulse: Pulse
    ) -> Accepted:
        # In flight before it is in the store, or this process's own recovery might end it.
        # It has no run before the store has its record, or a beat would take that for lost.
        timeout = start.marking.timeout or self._settings.timeout
        is_asked = self._settings.owner is not None and start.owner is None
        running = RunningOperation(
            fresh, None, timeout, is_attended=start.is_attended, is_asked=is_asked
        )
        self.admission.add(running)
        try:
            self._ensure_heartbeat()  # in flight before that, too, or it might go on sleeping
            stored = self._record(running, start.key, captured, pulse)
        except BaseException:
            self._running.drop(running)
            self._process.note_unanswered(fresh)
            raise
        if stored.id == fresh.id:
            running.run, running.stored = run, stored
            self.admission.count(start.owner)
            return Accepted(stored)
        self._running.drop(running)
        if captured is not None:
            self._store.discard(fresh.id)
        return Accepted(stored, is_new=False)

    def _record(
        self, running: RunningOperation, key: Key | None, captured: Captured | None, pulse: Pulse
    ) -> Operation:
        fresh = running.operation
        request = self._requests.keep(fresh.id, captured, pulse.beat) if captured else None
        # From now on: to keep a large request may have taken longer than a lease.
        claim = Claimed(self._process.worker, self._process.lease)
        running.operation = advance(fresh, claim, self._store.now())
        if pulse.is_left:
            raise StoreError("nobody waits for it any more")
        return self._create(running.operation, request, self._name(key) if key else None)

    def _create(self, fresh: Operation, request: Request | None, name: str | None) -> Operation:
        stored = self._store.create(fresh, request, name)
        if stored.id == fresh.id or not self._is_over(stored, fresh.owner):
            return stored
        self._process.repository.let_go_of_key(stored)  # or others just have
        return self._store.create(fresh, request, name)

    def _is_over(self, stored: Operation, owner: str | None) -> bool:
        """Tell whether what was coalesced is no answer to a request that comes now.

        Who turned out to own it inside is let in there, and not by having the same key.
        """
        is_others = stored.coalesced and stored.is_terminal and stored.owner != owner
        return is_others or is_stale(stored, self._store.now())

    def _name(self, key: Key) -> str:
        """Return by what the store knows a key: other applications may use it, too."""
        name = f"{self._process.application.name}\0{key.value}"
        return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()

    def mark(self, operation: Operation, marking: Marking, *, in_time: bool = False) -> None:
        """Take what a handler says of itself after its operation was accepted.

        Args:
            in_time: Whether its client waits for the 202, and has not heard of it yet.

        Raises:
            StoreError: It could not be recorded, so the handler must not go on.
        """
        running = self._running.of(operation)
        if running is None:
            return
        running.timeout = marking.timeout or running.timeout
        repeatable = self._may_repeat(operation, marking)
        is_needless = running.operation.captured and not repeatable
        if running.operation.repeatable != repeatable or is_needless:
            change = partial(self._process.repository.change, operation.id, Marked(repeatable))
            if in_time:
                with self._process.health.noticing():
                    self._process.health.writes.run(partial(change, fence=operation.fence))
            else:
                self._running.outlast(operation, partial(change, fence=operation.fence))
            captured = running.operation.captured and repeatable
            running.operation = with_changes(
                running.operation, repeatable=repeatable, captured=captured
            )
