"""The record of one deferred request, and every rule about how it changes.

What may happen to an operation is the table TRANSITIONS and nothing else: `advance` looks an
event up there, and whoever orders effects (`core`) writes what `advance` returned with the
store's compare-and-set. Stores keep records and know none of this. Pure: time comes in as `now`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from raincheck.errors import InvalidTransition
from raincheck.messages import Headers


class State(StrEnum):
    """Where an operation stands; the value is what the wire says."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
CLAIMED = frozenset({State.RUNNING, State.CANCELLING})  # somebody runs the handler


class Reason(StrEnum):
    """Why an operation failed without a response of its handler."""

    EXCEPTION = "exception"
    INTERRUPTED = "interrupted"
    TIMEOUT = "timeout"
    RESPONSE_TOO_LARGE = "response_too_large"
    RESPONSE_LOST = "response_lost"
    SHUTDOWN = "shutdown"
    EXPIRED_BEFORE_START = "expired_before_start"


EXPLANATIONS: Mapping[Reason, str] = {
    Reason.EXCEPTION: "The handler ended without a complete response.",
    Reason.INTERRUPTED: "The process that ran the handler is gone.",
    Reason.TIMEOUT: "The handler ran longer than it may.",
    Reason.RESPONSE_TOO_LARGE: "The handler's response is larger than may be kept.",
    Reason.RESPONSE_LOST: "The handler's response could not be stored.",
    Reason.SHUTDOWN: "The server was stopped before the handler ended.",
    Reason.EXPIRED_BEFORE_START: "The operation expired before it was started.",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a handler says it is; `completed` and `total` in any one unit."""

    completed: float
    total: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A handler's whole response but for its body, which the store keeps in chunks.

    Every chunk but the last has `chunk_size` bytes; together they have `length` bytes and lie
    under `fence`, so that a writer who lost its lease can't mix its bytes in.
    """

    status: int
    headers: Headers
    length: int
    chunk_size: int
    fence: int
    trailers: Headers = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One deferred request. Times are seconds since the epoch by the store's clock.

    `version` rises with every change, `fence` with every claim. `worker` is the process that runs
    the handler, `lease` the time until which it is believed to live. `expires` is the end of the
    promise to keep a terminal operation, or of the memory that there was one if `forgotten`.
    """

    id: str
    state: State
    created: float
    updated: float
    retention: float
    method: str
    route: str
    version: int = 1
    owner: str | None = None
    queue: str | None = None
    fence: int = 0
    worker: str | None = None
    lease: float | None = None
    expires: float | None = None
    forgotten: bool = False
    progress: Progress | None = None
    reason: Reason | None = None
    result: Result | None = None
    unknown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_terminal(self) -> bool:
        """Whether nothing will change the outcome any more."""
        return self.state in TERMINAL


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


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody who may do so wants the handler stopped."""


@dataclass(frozen=True, slots=True)
class Responded:
    """The handler gave a complete response, and its body is in the store."""

    result: Result
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The handler is over without a response, or nobody runs it any more."""

    reason: Reason
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The response is given up; for `memory` seconds more it is known that there was one."""

    memory: float


Event = Claimed | Renewed | CancelRequested | Responded | Ended | Forgotten


# The whole life of an operation. A pair that is missing here can't happen: `advance` raises.
# BY_STATUS stands for the state that the handler's own status decides.
BY_STATUS = None
TRANSITIONS: Mapping[tuple[State, type[Event]], State | None] = {
    (State.ACCEPTED, Claimed): State.RUNNING,
    (State.ACCEPTED, CancelRequested): State.CANCELLED,
    (State.ACCEPTED, Ended): State.FAILED,
    (State.RUNNING, Renewed): State.RUNNING,
    (State.RUNNING, CancelRequested): State.CANCELLING,
    (State.RUNNING, Responded): BY_STATUS,
    (State.RUNNING, Ended): State.FAILED,
    (State.CANCELLING, Renewed): State.CANCELLING,
    (State.CANCELLING, CancelRequested): State.CANCELLING,
    (State.CANCELLING, Responded): State.CANCELLED,
    (State.CANCELLING, Ended): State.CANCELLED,
    (State.SUCCEEDED, Forgotten): State.SUCCEEDED,
    (State.FAILED, Forgotten): State.FAILED,
    (State.CANCELLED, Forgotten): State.CANCELLED,
}


def advance(operation: Operation, event: Event, now: float) -> Operation:
    """Return what `operation` becomes when `event` happens at `now`.

    Raises:
        InvalidTransition: The table has no such pair; a terminal operation stays what it is.
    """
    key = (operation.state, type(event))
    if key not in TRANSITIONS or operation.forgotten:
        raise InvalidTransition(operation.state.value, type(event).__name__)
    state = TRANSITIONS[key] or _state_by_status(event)
    return _apply(replace(operation, state=state, version=operation.version + 1), event, now)


def _state_by_status(event: Event) -> State:
    refused = isinstance(event, Responded) and event.result.status >= 400
    return State.FAILED if refused else State.SUCCEEDED


def _apply(operation: Operation, event: Event, now: float) -> Operation:
    match event:
        case Claimed(worker, lease):
            claimed = replace(operation, worker=worker, lease=now + lease, updated=now)
            return replace(claimed, fence=operation.fence + 1)
        case Renewed(lease, progress):
            renewed = replace(operation, lease=now + lease)
            return replace(renewed, progress=progress, updated=now) if progress else renewed
        case CancelRequested():
            changed = replace(operation, updated=now)
        case Responded(result, progress):
            # A handler that outran its cancellation is still cancelled: its response is dropped.
            kept = None if operation.state is State.CANCELLED else result
            progress = progress or operation.progress
            changed = replace(operation, updated=now, result=kept, progress=progress)
        case Ended(reason, progress):
            why = None if operation.state is State.CANCELLED else reason
            progress = progress or operation.progress
            changed = replace(operation, updated=now, reason=why, progress=progress)
        case Forgotten(memory):
            return replace(operation, forgotten=True, result=None, expires=now + memory)
    if changed.is_terminal:
        changed = replace(changed, lease=None, expires=now + operation.retention)
    return changed


def is_mere_renewal(old: Operation, new: Operation) -> bool:
    """Tell whether a change is one that nobody who reads the operation would see."""
    # The first comparison spares almost all changes the other one.
    return new.updated == old.updated and old == replace(new, version=old.version, lease=old.lease)


def is_abandoned(operation: Operation, now: float, worker_lives: bool | None) -> bool:
    """Tell whether nobody runs this operation any more.

    Args:
        worker_lives: What is known about `operation.worker`; None where only its lease tells.
    """
    if operation.state not in CLAIMED:
        return False
    if worker_lives is None:
        return operation.lease is not None and operation.lease <= now
    return not worker_lives


def is_expired(operation: Operation, now: float) -> bool:
    """Tell whether the response is no longer promised (or was given up)."""
    return operation.forgotten or (operation.expires is not None and operation.expires <= now)
