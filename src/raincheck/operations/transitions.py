"""What may happen to an operation: the table TRANSITIONS, and nothing else.

`advance` looks an event up there, and whoever orders effects (`engine`) writes what it returned
with the store's compare-and-set. Pure: time comes in as `now`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raincheck.errors import InvalidTransition
from raincheck.operations.operation import (
    TERMINAL,
    Operation,
    Owned,
    Progress,
    Reason,
    Result,
    State,
    with_changes,
)

Changes = dict[str, Any]  # of an operation's attributes


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
    changes: Changes = {"state": state, "version": operation.version + 1}
    if isinstance(event, _TELL_OWNER) and event.owned is not None:
        changes |= _bound(operation, event.owned)
    if isinstance(event, (Responded, Ended)):
        changes |= _at_end(operation, state, event, now)
    elif isinstance(event, (Forgotten, Delivering, Delivered)):
        changes |= _after_end(operation, event, now)
    else:
        changes |= _before_end(operation, event, now)
        if state in TERMINAL:
            changes |= _expiry(operation, now)
    return with_changes(operation, **changes)


def bind(operation: Operation, owned: Owned) -> Operation:
    """Return the operation with its owner, which it keeps if it has one."""
    return with_changes(operation, **_bound(operation, owned))


def _bound(operation: Operation, owned: Owned) -> Changes:
    return {"owner": operation.owner or owned.owner, "unbound": False}


def _state_by(event: Event) -> State:
    if isinstance(event, Ended):  # of one that is being cancelled
        # A handler that has had its time may run on: to call it cancelled would be a lie.
        return State.FAILED if event.reason is Reason.TIMEOUT else State.CANCELLED
    refused = isinstance(event, Responded) and event.result.status >= 400
    return State.FAILED if refused else State.SUCCEEDED


def _before_end(
    operation: Operation,
    event: Claimed | Renewed | CancelRequested | Released | HandedOver | Told | Marked | Polled,
    now: float,
) -> Changes:
    match event:
        case Claimed(worker, lease):
            # How far an earlier run came says nothing about this one.
            progress = None if operation.fence else operation.progress
            is_begun = operation.queue is None or operation.started is not None
            started = operation.started if is_begun else now
            claim: Changes = {"worker": worker, "lease": now + lease, "fence": operation.fence + 1}
            return claim | {"started": started, "progress": progress, "updated": now}
        case Renewed(lease, progress, _):
            news: Changes = {"progress": progress, "updated": now} if progress else {}
            return {"lease": now + lease} | news
        case CancelRequested():
            return {"updated": now}
        case Released():
            due = None if operation.queue is None else now
            return {"worker": None, "lease": due, "updated": now}
        case HandedOver(queue, due, not_before, _):
            waiting: Changes = {"queue": queue, "lease": due, "not_before": not_before}
            unbegun = operation.unbegun + 1
            return waiting | {"worker": None, "unbegun": unbegun, "updated": now}
        case Told(due, lifts_time):
            return {"lease": due, "not_before": None if lifts_time else operation.not_before}
        case Marked(repeatable):
            return {"repeatable": repeatable, "captured": operation.captured and repeatable}
        case Polled():
            return {"polled": now}


def _at_end(operation: Operation, state: State, event: Responded | Ended, now: float) -> Changes:
    changes: Changes = {"updated": now, "progress": event.progress or operation.progress}
    is_cancelled = state is State.CANCELLED
    if isinstance(event, Ended):
        changes["reason"] = None if is_cancelled else event.reason
    elif is_cancelled:  # its handler outran the cancellation, and is cancelled all the same
        changes["reason"] = Reason.RESPONSE_DISCARDED
    else:
        changes["result"] = event.result
    return changes | _expiry(operation, now)


def _expiry(operation: Operation, now: float) -> Changes:
    due = now if operation.webhook is not None else None
    return {"lease": due, "expires": now + operation.retention}


def _after_end(
    operation: Operation, event: Forgotten | Delivering | Delivered, now: float
) -> Changes:
    match event:
        case Forgotten(memory):
            given_up: Changes = {"forgotten": True, "result": None, "expires": now + memory}
            return given_up | {"webhook": None, "lease": None}
        case Delivering(lease, is_try):
            return {"deliveries": operation.deliveries + is_try, "lease": now + lease}
        case Delivered():
            return {"webhook": None, "lease": None}


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
