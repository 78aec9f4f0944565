"""What may happen to an operation: every state and event as one table, field by field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raincheck.errors import InvalidTransition
from raincheck.operations.operation import (
    TERMINAL,
    Operation,
    Owned,
    Progress,
    Reason,
    Result,
    State,
)
from raincheck.operations.transitions import (
    TRANSITIONS,
    CancelRequested,
    Claimed,
    Delivered,
    Delivering,
    Ended,
    Event,
    Forgotten,
    HandedOver,
    Marked,
    Polled,
    Released,
    Renewed,
    Responded,
    Told,
    advance,
    after_loss,
    bind,
)

NOW, LEASE, RETENTION = 2000.0, 30.0, 60.0
NEWS = Progress(2, 2)
HOOK = "https://hook.test/"


def response(status: int) -> Result:
    return Result(status, ((b"x-a", b"1"),), length=3, chunk_size=10, fence=2)


def at(state: State, **changes: Any) -> Operation:
    """Return an operation with something in every field that an event could change."""
    claim: dict[str, Any] = {"worker": "w", "lease": 1031.0}
    if state is State.ACCEPTED:
        claim = {}
    if state in TERMINAL:
        claim = {"worker": "w", "expires": 1070.0, "result": response(200)}
    before = {"unbound": True, "repeatable": True, "captured": True, "progress": Progress(1, 2)}
    fields = {"version": 7, "fence": 2, "polled": 1005.0, "deliveries": 1, **before, **claim}
    return Operation("a" * 32, state, 1000.0, 1001.0, RETENTION, "POST", "/", **fields | changes)


UPDATED = {"updated": NOW}
OVER = {"updated": NOW, "lease": None, "expires": NOW + RETENTION}
ROWS: list[tuple[State, Event, State, dict[str, Any]]] = [
    (
        State.ACCEPTED,
        Claimed("v", LEASE),
        State.RUNNING,
        {"worker": "v", "lease": NOW + LEASE, "fence": 3, "progress": None} | UPDATED,
    ),
    (State.ACCEPTED, CancelRequested(), State.CANCELLED, OVER),
    (
        State.ACCEPTED,
        Ended(Reason.EXPIRED_BEFORE_START),
        State.FAILED,
        OVER | {"reason": Reason.EXPIRED_BEFORE_START},
    ),
    (State.ACCEPTED, Polled(), State.ACCEPTED, {"polled": NOW}),
    (State.ACCEPTED, Told(NOW + 60), State.ACCEPTED, {"lease": NOW + 60}),
    (State.RUNNING, Renewed(LEASE), State.RUNNING, {"lease": NOW + LEASE}),
    (
        State.RUNNING,
        Renewed(LEASE, NEWS),
        State.RUNNING,
        {"lease": NOW + LEASE, "progress": NEWS} | UPDATED,
    ),
    (State.RUNNING, CancelRequested(), State.CANCELLING, UPDATED),
    *(
        (State.RUNNING, Responded(response(status)), ended, OVER | {"result": response(status)})
        for status, ended in [
            *((200, State.SUCCEEDED), (399, State.SUCCEEDED)),
            *((400, State.FAILED), (503, State.FAILED)),
        ]
    ),
    *(
        (
            State.RUNNING,
            Ended(reason, NEWS),
            State.FAILED,
            OVER | {"reason": reason, "progress": NEWS},
        )
        for reason in (Reason.EXCEPTION, Reason.TIMEOUT)
    ),
    (State.RUNNING, Released(), State.ACCEPTED, {"worker": None, "lease": None} | UPDATED),
    (
        State.RUNNING,
        HandedOver("nightly", NOW + 60, NOW + 90),
        State.ACCEPTED,
        {"queue": "nightly", "lease": NOW + 60, "not_before": NOW + 90, "worker": None}
        | {"unbegun": 1}
        | UPDATED,
    ),
    (
        State.RUNNING,
        HandedOver("nightly", NOW + 60, owned=Owned("anne")),
        State.ACCEPTED,
        {"queue": "nightly", "lease": NOW + 60, "worker": None, "unbegun": 1}
        | {"owner": "anne", "unbound": False}
        | UPDATED,
    ),
    (State.RUNNING, Marked(True), State.RUNNING, {}),
    (State.RUNNING, Marked(False), State.RUNNING, {"repeatable": False, "captured": False}),
    (State.RUNNING, Polled(), State.RUNNING, {"polled": NOW}),
    (State.CANCELLING, Renewed(LEASE), State.CANCELLING, {"lease": NOW + LEASE}),
    (State.CANCELLING, CancelRequested(), State.CANCELLING, UPDATED),
    (
        State.CANCELLING,
        Responded(response(200)),
        State.CANCELLED,
        OVER | {"reason": Reason.RESPONSE_DISCARDED},
    ),
    (State.CANCELLING, Ended(Reason.EXCEPTION), State.CANCELLED, OVER),
    (
        State.CANCELLING,
        Ended(Reason.TIMEOUT),
        State.FAILED,
        OVER | {"reason": Reason.TIMEOUT},
    ),
]
LATER: list[tuple[Event, dict[str, Any]]] = [
    (
        Forgotten(500.0),
        {
            "forgotten": True,
            "result": None,
            "webhook": None,
            "lease": None,
            "expires": NOW + 500,
        },
    ),
    (Delivering(20.0), {"deliveries": 2, "lease": NOW + 20}),
    (Delivering(20.0, is_try=False), {"lease": NOW + 20}),
    (Delivered(), {"webhook": None, "lease": None}),
]
EVENTS: list[Event] = [
    Claimed("v", LEASE),
    Renewed(LEASE),
    CancelRequested(),
    Responded(response(200)),
    Ended(Reason.EXCEPTION),
    Released(),
    HandedOver("q", 1.0),
    Told(1.0),
    Marked(True),
    Polled(),
    Forgotten(500.0),
    Delivering(20.0),
    Delivered(),
]
ALLOWED = {(state, type(event)) for state, event, _, _ in ROWS}
ALLOWED |= {(state, type(event)) for state in TERMINAL for event, _ in LATER}


@pytest.mark.parametrize(("state", "event", "after", "changes"), ROWS)
def test_each_event_changes_what_it_is_to_and_nothing_else(
    state: State, event: Event, after: State, changes: dict[str, Any]
) -> None:
    before = at(state)
    expected = replace(before, state=after, version=8, **changes)
    assert advance(before, event, NOW) == expected


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize(("event", "changes"), LATER)
def test_after_the_end_a_response_may_be_forgotten_and_a_webhook_told(
    state: State, event: Event, changes: dict[str, Any]
) -> None:
    before = at(state, webhook=HOOK, lease=1070.0)
    assert advance(before, event, NOW) == replace(before, version=8, **changes)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_nothing_else_can_happen(state: State, event: Event) -> None:
    assert ((state, type(event)) in TRANSITIONS) is ((state, type(event)) in ALLOWED)
    if (state, type(event)) not in ALLOWED:
        with pytest.raises(InvalidTransition) as raised:
            advance(at(state), event, NOW)
        assert state.value in str(raised.value)
        assert type(event).__name__ in str(raised.value)
    with pytest.raises(InvalidTransition):
        advance(at(state, forgotten=True), event, NOW)


def test_what_waits_in_a_queue_is_due_as_soon_as_its_worker_is_gone() -> None:
    released = advance(at(State.RUNNING, queue="nightly"), Released(), NOW)
    assert (released.state, released.queue, released.lease) == (State.ACCEPTED, "nightly", NOW)


def test_the_time_of_what_waits_may_be_lifted() -> None:
    waiting = at(State.ACCEPTED, queue="nightly", lease=NOW + 90, not_before=NOW + 90)
    assert advance(waiting, Told(NOW + 60), NOW).not_before == NOW + 90
    lifted = advance(waiting, Told(NOW, lifts_time=True), NOW)
    assert (lifted.lease, lifted.not_before, lifted.queue) == (NOW, None, "nightly")


def test_a_handler_in_a_queue_begins_when_a_worker_first_claims_it() -> None:
    first = advance(at(State.ACCEPTED, queue="q"), Claimed("v", LEASE), NOW)
    again = advance(replace(first, state=State.ACCEPTED), Claimed("w", LEASE), NOW + 50)
    assert (first.started, again.started, again.begun) == (NOW, NOW, NOW)
    assert at(State.ACCEPTED).begun == 1000.0


def test_what_was_handed_over_before_it_began_has_one_attempt_less() -> None:
    left = advance(at(State.RUNNING, fence=1), HandedOver("q", NOW), NOW)
    claimed = advance(left, Claimed("v", LEASE), NOW)
    assert (left.attempts, claimed.fence, claimed.attempts) == (0, 2, 1)
    again = advance(claimed, HandedOver("q", NOW), NOW)
    assert (again.unbegun, again.attempts) == (2, 0)
    assert isinstance(after_loss(claimed, Reason.INTERRUPTED, 2), Released)
    assert isinstance(after_loss(claimed, Reason.INTERRUPTED, 1), Ended)


def test_progress_from_before_the_first_claim_is_kept_by_it() -> None:
    assert advance(at(State.ACCEPTED, fence=0), Claimed("v", LEASE), NOW).progress is not None


def test_who_may_be_run_again_has_no_request_for_that_unless_it_was_captured() -> None:
    assert not advance(at(State.RUNNING, captured=False), Marked(True), NOW).captured


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (State.ACCEPTED, CancelRequested()),
        (State.RUNNING, Responded(response(200))),
        (State.RUNNING, Ended(Reason.EXCEPTION)),
        (State.CANCELLING, Responded(response(200))),
        (State.CANCELLING, Ended(Reason.EXCEPTION)),
    ],
)
def test_a_webhook_is_due_at_the_end(state: State, event: Event) -> None:
    ended = advance(at(state, webhook=HOOK), event, NOW)
    assert (ended.webhook, ended.lease) == (HOOK, NOW)


@pytest.mark.parametrize(
    ("before", "owned", "owner", "is_unbound"),
    [
        (None, None, None, True),
        (None, Owned(None), None, False),
        (None, Owned("anne"), "anne", False),
        ("bob", Owned("anne"), "bob", False),
    ],
)
def test_an_operation_gets_the_owner_that_is_found_and_keeps_the_one_it_has(
    before: str | None, owned: Owned | None, owner: str | None, is_unbound: bool
) -> None:
    events = (
        Renewed(LEASE, None, owned),
        Responded(response(200), None, owned),
        Ended(Reason.EXCEPTION, None, owned),
    )
    for event in events:
        changed = advance(at(State.RUNNING, owner=before), event, NOW)
        assert (changed.owner, changed.unbound) == (owner, is_unbound)
    if owned is not None:
        bound = replace(at(State.RUNNING), owner=owner, unbound=False)
        assert bind(at(State.RUNNING, owner=before), owned) == bound


@pytest.mark.parametrize(
    ("changes", "max_attempts", "is_released"),
    [
        ({}, 3, True),
        ({}, 2, False),  # it has been begun twice
        ({"repeatable": False}, 3, False),
        ({"captured": False}, 3, False),
        ({"state": State.CANCELLING}, 3, False),
    ],
)
def test_what_is_lost_is_released_where_it_may_be_run_again_or_else_ends(
    changes: dict[str, Any], max_attempts: int, is_released: bool
) -> None:
    after = after_loss(replace(at(State.RUNNING), **changes), Reason.SHUTDOWN, max_attempts)
    assert after == (Released() if is_released else Ended(Reason.SHUTDOWN))
