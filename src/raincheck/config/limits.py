"""What one process takes upon itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields

from raincheck.errors import ConfigurationError

REQUEST_BODY = 10 * 1024 * 1024  # bytes


# May be None.
_UNLIMITED = frozenset({"waiters", "operations_per_owner", "operations_in_store"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process takes upon itself.

    Attributes:
        operations: Operations in flight. Above it, requests that would be deferred from the
            start are refused with 503, and the others stay synchronous. Default 1,000.
        operations_per_owner: The same for those of one owner, in all processes together; refused
            with 429. Counted in the store, about once a second. Default: no limit.
        operations_in_store: The same for those of everybody, in all processes that share the
            store; refused with 503. Default: no limit.
        request_body: Bytes of a request body that may be read ahead of its handler, so that the
            202 can leave; a larger request is not promoted. Default 10 MiB.
        spooled: Bytes of request bodies that may be in temporary files at the same time: what
            exceeds 1 MiB of each. Above it, as above `operations`. Default 1 GiB.
        synchronous: Requests that may go on synchronously although they were to be deferred,
            because the store fails. Above it, those that would be deferred from the start are
            refused with 503. Default 100.
        response_body: Bytes of a response that are kept; a larger one fails its operation as
            `response_too_large`. Default 1 GiB.
        waiters: WSGI only: threads of the server that may wait at the same time, for a budget to
            run out or (`Prefer: wait` on a poll) for an operation to end. Above it, a poll is
            answered at once; else the request that has waited longest is promoted, and for at least
            a second. Default: all threads that the server has but one, as far as raincheck sees
            them, or its only one; and a poll waits only while fewer than half of them do.
        pollers: Clients that may wait (`Prefer: wait`) or listen (`Accept: text/event-stream`) at
            the same time. Above it, one is answered at once. Default 10,000.
    """

    operations: int = 1_000
    request_body: int = REQUEST_BODY
    response_body: int = 1024 * 1024 * 1024
    synchronous: int = 100
    waiters: int | None = None
    operations_per_owner: int | None = None
    operations_in_store: int | None = None
    spooled: int = 1024 * 1024 * 1024
    pollers: int = 10_000

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if value is None and name in _UNLIMITED:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ConfigurationError(f"limits: {name} must be an integer ≥ 0, not {value!r}")
