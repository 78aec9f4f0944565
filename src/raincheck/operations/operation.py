"""The record of one deferred request, and what can be said of it. Pure: time comes in as `now`.

What may happen to it is the table in `transitions`. Stores keep records and know none of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any

from raincheck.errors import abbreviate
from raincheck.http.messages import Headers


class State(StrEnum):
    """Where an operation stands; the value is what records say."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def on_the_wire(self) -> str:
        """What clients are told; in one spelling of "canceled" azure-core would poll for ever."""
        return "canceled" if self is State.CANCELLED else self.value


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
CLAIMED = frozenset({State.RUNNING, State.CANCELLING})  # somebody runs the handler
IN_FLIGHT = CLAIMED | {State.ACCEPTED}  # it has not ended
SETTLED = TERMINAL | {State.ACCEPTED}  # nobody runs the handler

PASSING = frozenset({429, 502, 503, 504})  # statuses that ask the client to come again
LONGEST_WAIT_SECONDS = 7 * 86_400.0  # in a queue, unless responses are kept for longer
LATE_SECONDS, LONGEST_SECONDS = 10, 40  # in which who repeats a request comes after its end
REQUEST_FENCE = 0  # a request's body lies here: the first claim, and so every response, has 1


class Reason(StrEnum):
    """Why an operation ended without a response of its handler."""

    EXCEPTION = "exception"
    INTERRUPTED = "interrupted"
    TIMEOUT = "timeout"
    RESPONSE_TOO_LARGE = "response_too_large"
    RESPONSE_LOST = "response_lost"
    SHUTDOWN = "shutdown"
    EXPIRED_BEFORE_START = "expired_before_start"
    RESPONSE_DISCARDED = "response_discarded"
    OWNER_UNKNOWN = "owner_unknown"
    TOO_MANY_OPERATIONS = "too_many_operations"


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
    under `fence`, so that a writer who lost its lease can't mix its bytes in. `error_code` and
    `error_message` are what an error says of itself, for the status document.
    """

    status: int
    headers: Headers
    length: int
    chunk_size: int
    fence: int
    trailers: Headers = ()
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class Owned:
    """Whose an operation has turned out to be; None: nobody's."""

    owner: str | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One deferred request. Times are seconds since the epoch by the store's clock.

    `version` rises with every change, `fence` with every claim. `worker` is the process that runs
    the handler, `lease` the time until which it is believed to live. `expires` is the end of the
    promise to keep a terminal operation, or of the memory that there was one if `forgotten`.

    `owner` is the principal that it belongs to, None: nobody. While it is `unbound`, that is not
    known yet, and it is shown to nobody.

    `repeatable` says whether the handler may be run again if a process is lost, `captured` whether
    the store has the request to run it from. `fingerprint` is that of a request under a key, which
    is let go if it was `coalesced`: at the end, or seconds later if a 202 was sent. `application`
    is the one whose processes show it and may run the handler, `code` the fingerprint of its
    source. `queue` is where it waits for workers; None: for processes of its application. Until it
    is claimed, `lease` is when it may be taken up, or its workers told again; not `not_before`.
    `started` is when its handler was first begun there, `unbegun` the number of claims under which
    it was not. `webhook` is the URL that is still to be told of the end, after so many
    `deliveries`; then `lease` is the time from which the next may be made. `polled` is about when
    somebody last asked for it, where that counts. `form_token` is what the forms of its page must
    send.
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
    unbound: bool = False
    queue: str | None = None
    fence: int = 0
    worker: str | None = None
    lease: float | None = None
    expires: float | None = None
    forgotten: bool = False
    progress: Progress | None = None
    reason: Reason | None = None
    result: Result | None = None
    repeatable: bool = False
    captured: bool = False
    fingerprint: str | None = None
    coalesced: bool = False
    application: str | None = None
    code: str | None = None
    webhook: str | None = None
    deliveries: int = 0
    polled: float | None = None
    form_token: str | None = None
    not_before: float | None = None
    started: float | None = None
    unbegun: int = 0
    unknown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_terminal(self) -> bool:
        """Whether nothing will change the outcome any more."""
        return self.state in TERMINAL

    @property
    def attempts(self) -> int:
        """How often its handler was begun."""
        return self.fence - self.unbegun

    @property
    def begun(self) -> float:
        """When its handler was begun first; before that, when it was accepted."""
        return self.created if self.started is None else self.started

    @property
    def application_name(self) -> str | None:
        """The name of its application, wherever that is mounted."""
        name = self.application
        return name.rpartition("\n")[0] if name is not None and "\n" in name else name

    @property
    def last_asked(self) -> float:
        """About when somebody last wanted it: the one who started it, or a poll."""
        return self.created if self.polled is None else self.polled

    @property
    def shown(self) -> str:
        """What a log may say of it: never the whole id, which opens the response."""
        return f"{abbreviate(self.id)} ({self.method} {self.route!r})"


_FIELDS = tuple(f.name for f in fields(Operation))
_values_of = attrgetter(*_FIELDS)
_SETTERS = {name: getattr(Operation, name).__set__ for name in _FIELDS}
_seen_of = attrgetter(*(f for f in _FIELDS if f not in ("version", "lease", "polled")))


def with_changes(operation: Operation, **changes: Any) -> Operation:
    """Return what `dataclasses.replace` does, at less than half of its cost: all do it often."""
    new = object.__new__(Operation)
    for write, value in zip(_SETTERS.values(), _values_of(operation), strict=True):
        write(new, value)
    for name, value in changes.items():
        _SETTERS[name](new, value)
    return new


def is_mere_renewal(old: Operation, new: Operation) -> bool:
    """Tell whether a change is one that nobody who reads the operation would see."""
    return bool(_seen_of(old) == _seen_of(new))


def is_due(operation: Operation, now: float) -> bool:
    """Tell whether workers may begin an operation that waits for them."""
    return operation.not_before is None or operation.not_before <= now


def has_waited_in_vain(operation: Operation, now: float) -> bool:
    """Tell whether an operation has waited to be run for longer than anybody waits.

    That is as long as its response would be kept; in a queue at least a week, as a worker for the
    night may miss some.
    """
    begun = max(operation.updated, operation.not_before or 0.0)
    patience = operation.retention
    if operation.queue is not None:
        patience = max(patience, LONGEST_WAIT_SECONDS)
    return now - begun > patience


def may_be_owned(operation: Operation) -> bool:
    """Tell whether it may turn out whose an operation is when its handler is reached.

    What is in a queue has reached its handler nowhere before a worker runs it.
    """
    return operation.unbound or (operation.queue is not None and operation.owner is None)


def is_abandoned(operation: Operation, now: float, *, is_dead: bool) -> bool:
    """Tell whether nobody runs this operation any more.

    Args:
        is_dead: Whether its worker is known to be; of others only the lease tells.
    """
    if operation.state not in CLAIMED:
        return False
    return is_dead or (operation.lease is not None and operation.lease <= now)


def is_overtaken(operation: Operation | None, fence: int) -> bool:
    """Tell whether nobody may write a response under a fence any more: its claim is over.

    Args:
        operation: None: there is no record, or none any more.
    """
    if operation is None or fence == REQUEST_FENCE:
        return False
    if operation.fence != fence:
        return operation.fence > fence
    return operation.state in SETTLED


def is_stale(operation: Operation, now: float) -> bool:
    """Tell whether identical requests are no longer answered with what was coalesced.

    Who repeats a request on a 202, instead of following it, comes once more after the end: as late
    as the last `Retry-After` has said (a tenth of the age), and some seconds more.
    """
    if not operation.coalesced or not operation.is_terminal:
        return False
    result, reason = operation.result, operation.reason
    if is_expired(operation, now) or operation.expires is None:
        return True
    # What may be otherwise the next time is no answer to who comes later.
    is_passing = result is not None and result.status in PASSING
    if is_passing or operation.state is State.CANCELLED or reason not in (None, Reason.EXCEPTION):
        return True
    end = operation.expires - operation.retention
    return now > end + min(LONGEST_SECONDS, LATE_SECONDS + (end - operation.created) / 10)


def is_expired(operation: Operation, now: float) -> bool:
    """Tell whether the response is no longer promised (or was given up)."""
    return operation.forgotten or (operation.expires is not None and operation.expires <= now)
