"""What may happen to an operation: the table TRANSITIONS, and nothing else.

`advance` looks an event up there, and whoever orders effects (`engine`) writes what it returned
with the store's compare-and-set. Pure: time comes in as `now`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from raincheck.errors import InvalidTransition
from raincheck.operations.operation import Operation, Owned, Progress, Reason, Result, State


@dataclass(frozen=True, slots=True)
class Claimed:
    """`worker` begins to run the handler and is believed to live for `lease` seconds."""

    worker: str
    lease: float


@dataclass(frozen=True, slots=True)
class Renewed:
    """The worker lives and may have news."""

    lease: float
    progress: Progress | None = None
    owned: Owned | None = None


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody who may do so wants the handler stopped."""


@dataclass(frozen=True, slots=True)
class Responded:
    """The handler gave a complete response, and its body is in the store."""

    result: Result
    progress: Progress | None = None
    owned: Owned | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The handler is over without a response, or nobody runs it any more."""

    reason: Reason
    progress: Progress | None = None
    owned: Owned | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """The worker is gone, or will be: any other may begin to run the handler again."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The handler was reached and not begun: it is for workers of `queue`, and not for this one.

    Attributes:
        due: When they may take it up, or are told again.
        owned: Whose it is, if that has turned out meanwhile.
    """

    queue: str
    due: float
    not_before: float | None = None
    owned: Owned | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """The workers of its queue are told of it, and will be again from `due` on.

    Attributes:
        lifts_time: Whether they may begin, although its time has not come.
    """

    due: float
    lifts_time: bool = False


@dataclass(frozen=True, slots=True)
class Marked:
    """The handler itself says whether it may be run again."""

    repeatable: bool


@dataclass(frozen=True, slots=True)
class Polled:
    """Somebody has asked for it."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The response is given up; for `memory` seconds more it is known that there was one."""

    memory: float


@dataclass(frozen=True, slots=True)
class Delivering:
    """Somebody tells the webhook of the end, and nobody else does for `lease` seconds.

    Or it is put off for so long, which is no try.
    """

    lease: float
    is_try: bool = True


@dataclass(frozen=True, slots=True)
class Delivered:
    """The webhook is not told any more: it knows, or was tried often enough."""


Event = (
    Claimed
    | Renewed
    | CancelRequested
    | Responded
    | Ended
    | Released
    | HandedOver
    | Told
    | Marked
    | Polled
    | Forgotten
    | Delivering
    | Delivered
)


# The whole life of an operation. A pair that is missing here can't happen: `advance` raises.
# BY_EVENT stands for the state that the event decides: the handler's own status, or why it ended.
BY_EVENT = None
TRANSITIONS: Mapping[tuple[State, type[Event]], State | None] = {
    (State.ACCEPTED, Claimed): State.RUNNING,
    (State.ACCEPTED, CancelRequested): State.CANCELLED,
    (State.ACCEPTED, Ended): State.FAILED,
    (State.ACCEPTED, Polled): State.ACCEPTED,
    (State.ACCEPTED, Told): State.ACCEPTED,
    (State.RUNNING, Renewed): State.RUNNING,
    (State.RUNNING, CancelRequested): State.CANCELLING,
    (State.RUNNING, Responded): BY_EVENT,
    (State.RUNNING, Ended): State.FAILED,
    (State.RUNNING, Released): State.ACCEPTED,
    (State.RUNNING, HandedOver): State.ACCEPTED,
    (State.RUNNING, Marked): State.RUNNING,
    (State.RUNNING, Polled): State.RUNNING,
    (State.CANCELLING, Renewed): State.CANCELLING,
    (State.CANCELLING, CancelRequested): State.CANCELLING,
    (State.CANCELLING, Responded): State.CANCELLED,
    (State.CANCELLING, Ended): BY_EVENT,
    (State.SUCCEEDED, Forgotten): State.SUCCEEDED,
    (State.FAILED, Forgotten): State.FAILED,
    (State.CANCELLED, Forgotten): State.CANCELLED,
    (State.SUCCEEDED, Delivering): State.SUCCEEDED,
    (State.FAILED, Delivering): State.FAILED,
    (State.CANCELLED, Delivering): State.CANCELLED,
    (State.SUCCEEDED, Delivered): State.SUCCEEDED,
    (State.FAILED, Delivered): State.FAILED,
    (State.CANCELLED, Delivered): State.CANCELLED,
}


_TELL_OWNER = (Renewed, Responded, Ended, HandedOver)


def advance(operation: Operation, event: Event, now: float) -> Operation:
    """Return what `operation` becomes when `event` happens at `now`.

    Raises:
        InvalidTransition: The table has no such pair; a terminal operation stays what it is.
    """
    key = (operation.state, type(event))
    if key not in TRANSITIONS or operation.forgotten:
        raise InvalidTransition(operation.state.value, type(event).__name__)
    state = TRANSITIONS[key] or _state_by(event)
    changed = replace(operation, state=state, version=operation.version + 1)
    if isinstance(event, _TELL_OWNER) and event.owned is not None:
        changed = bind(changed, event.owned)
    if isinstance(event, (Forgotten, Delivering, Delivered)):
        return _apply_after_end(changed, event, now)
    if isinstance(event, (Responded, Ended)):
        return _end(changed, event, now)
    changed = _apply(changed, event, now)
    return _expire(changed, now) if changed.is_terminal else changed


def bind(operation: Operation, owned: Owned) -> Operation:
    """Return the operation with its owner, which it keeps if it has one."""
    return replace(operation, owner=operation.owner or owned.owner, unbound=False)


def _state_by(event: Event) -> State:
    if isinstance(event, Ended):  # of one that is being cancelled
        # A handler that has had its time may run on: to call it cancelled would be a lie.
        return State.FAILED if event.reason is Reason.TIMEOUT else State.CANCELLED
    refused = isinstance(event, Responded) and event.result.status >= 400
    return State.FAILED if refused else State.SUCCEEDED


def _apply(
    operation: Operation,
    event: Claimed | Renewed | CancelRequested | Released | HandedOver | Told | Marked | Polled,
    now: float,
) -> Operation:
    match event:
        case Claimed(worker, lease):
            claimed = replace(operation, worker=worker, lease=now + lease, updated=now)
            if operation.queue is not None and operation.started is None:
                claimed = replace(claimed, started=now)
            # How far an earlier run came says nothing about this one.
            progress = None if operation.fence else operation.progress
            return replace(claimed, fence=operation.fence + 1, progress=progress)
        case Renewed(lease, progress, _):
            renewed = replace(operation, lease=now + lease)
            return replace(renewed, progress=progress, updated=now) if progress else renewed
        case CancelRequested():
            return replace(operation, updated=now)
        case Released():
            due = None if operation.queue is None else now
            return replace(operation, worker=None, lease=due, updated=now)
        case HandedOver(queue, due, not_before, _):
            waiting = replace(operation, queue=queue, not_before=not_before, worker=None, lease=due)
            return replace(waiting, unbegun=operation.unbegun + 1, updated=now)
        case Told(due, lifts_time):
            not_before = None if lifts_time else operation.not_before
            return replace(operation, lease=due, not_before=not_before)
        case Marked(repeatable):
            captured = operation.captured and repeatable
            return replace(operation, repeatable=repeatable, captured=captured)
        case Polled():
            return replace(operation, polled=now)


def _end(operation: Operation, event: Responded | Ended, now: float) -> Operation:
    is_cancelled = operation.state is State.CANCELLED
    ended = replace(operation, updated=now, progress=event.progress or operation.progress)
    if isinstance(event, Ended):
        ended = replace(ended, reason=None if is_cancelled else event.reason)
    elif is_cancelled:  # its handler outran the cancellation, and is cancelled all the same
        ended = replace(ended, reason=Reason.RESPONSE_DISCARDED)
    else:
        ended = replace(ended, result=event.result)
    return _expire(ended, now)


def _expire(ended: Operation, now: float) -> Operation:
    due = now if ended.webhook is not None else None
    return replace(ended, lease=due, expires=now + ended.retention)


def _apply_after_end(
    operation: Operation, event: Forgotten | Delivering | Delivered, now: float
) -> Operation:
    match event:
        case Forgotten(memory):
            given_up = replace(operation, webhook=None, lease=None)
            return replace(given_up, forgotten=True, result=None, expires=now + memory)
        case Delivering(lease, is_try):
            return replace(operation, deliveries=operation.deliveries + is_try, lease=now + lease)
        case Delivered():
            return replace(operation, webhook=None, lease=None)


def after_loss(operation: Operation, reason: Reason, max_attempts: int) -> Released | Ended:
    """Say what becomes of an operation whose worker is gone, or will be.

    Args:
        reason: Why it fails if it can't be run again.
        max_attempts: How often its handler may be begun.
    """
    may_run_again = (
        operation.repeatable and operation.captured and operation.attempts < max_attempts
    )
    if operation.state is State.RUNNING and may_run_again:
        return Released()
    return Ended(reason)
