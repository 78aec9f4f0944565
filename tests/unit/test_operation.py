"""The transition table, and what each event does to a record."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.errors import InvalidTransition
from raincheck.operations.operation import (
    CLAIMED,
    IN_FLIGHT,
    PASSING,
    SETTLED,
    TERMINAL,
    Operation,
    Progress,
    Reason,
    Result,
    State,
    has_waited_in_vain,
    is_abandoned,
    is_due,
    is_expired,
    is_mere_renewal,
    is_overtaken,
    may_be_owned,
    with_changes,
)
from raincheck.operations.records import decode, encode
from raincheck.operations.transitions import (
    TRANSITIONS,
    CancelRequested,
    Claimed,
    Ended,
    Event,
    Forgotten,
    Renewed,
    Responded,
    advance,
)

NEW = Operation(
    id="a" * 32,
    state=State.ACCEPTED,
    created=1000.0,
    updated=1000.0,
    retention=60.0,
    method="POST",
    route="/reports",
)


def result(status: int = 200) -> Result:
    return Result(status, ((b"x-a", b"\xff"),), length=3, chunk_size=10, fence=1)


RUNNING = advance(NEW, Claimed("w", 30.0), 1001.0)


@pytest.mark.parametrize("name", [f.name for f in fields(Operation)])
def test_an_operation_with_changes_differs_from_the_other_in_nothing_else(name: str) -> None:
    change: dict[str, Any] = {name: "another"}
    assert with_changes(RUNNING, **change) == replace(RUNNING, **change)
    assert getattr(RUNNING, name) != "another"


@pytest.mark.parametrize("name", [f.name for f in fields(Operation)])
def test_what_nobody_sees_of_a_change_is_a_mere_renewal(name: str) -> None:
    unseen = {"version", "lease", "polled"}
    assert is_mere_renewal(RUNNING, with_changes(RUNNING, **{name: 99.0})) == (name in unseen)


CANCELLING = advance(RUNNING, CancelRequested(), 1002.0)
SUCCEEDED = advance(RUNNING, Responded(result()), 1003.0)
EVENTS: list[Event] = [
    Claimed("w", 30.0),
    Renewed(30.0),
    CancelRequested(),
    Responded(result()),
    Ended(Reason.EXCEPTION),
    Forgotten(60.0),
]


def test_a_claim_raises_the_fence_and_sets_the_lease() -> None:
    assert (RUNNING.state, RUNNING.fence, RUNNING.worker) == (State.RUNNING, 1, "w")
    assert RUNNING.lease == 1031.0


@pytest.mark.parametrize(
    ("status", "state"),
    [(200, State.SUCCEEDED), (399, State.SUCCEEDED), (400, State.FAILED), (503, State.FAILED)],
)
def test_the_handlers_status_decides_between_succeeded_and_failed(
    status: int, state: State
) -> None:
    done = advance(RUNNING, Responded(result(status)), 1003.0)
    assert (done.state, done.reason) == (state, None)
    assert done.result is not None
    assert done.result.status == status


def test_an_end_without_a_response_is_failed_and_says_why() -> None:
    done = advance(RUNNING, Ended(Reason.INTERRUPTED), 1003.0)
    assert (done.state, done.reason, done.result) == (State.FAILED, Reason.INTERRUPTED, None)


def test_a_handler_that_stops_is_cancelled() -> None:
    done = advance(CANCELLING, Ended(Reason.EXCEPTION), 1003.0)
    assert (done.state, done.reason, done.result) == (State.CANCELLED, None, None)


def test_a_handler_that_outruns_its_cancellation_is_cancelled_and_that_is_said() -> None:
    done = advance(CANCELLING, Responded(result()), 1003.0)
    assert (done.state, done.result) == (State.CANCELLED, None)
    assert done.reason is Reason.RESPONSE_DISCARDED


def test_retention_begins_at_the_end() -> None:
    assert SUCCEEDED.expires == 1063.0
    assert SUCCEEDED.lease is None
    assert not is_expired(SUCCEEDED, 1062.9)
    assert is_expired(SUCCEEDED, 1063.0)


def test_what_is_forgotten_is_expired_and_has_no_result() -> None:
    forgotten = advance(SUCCEEDED, Forgotten(500.0), 1010.0)
    assert (forgotten.result, forgotten.expires) == (None, 1510.0)
    assert is_expired(forgotten, 1010.0)


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_terminal_is_terminal(state: State, event: Event) -> None:
    done = replace(SUCCEEDED, state=state)
    if isinstance(event, Forgotten):
        assert advance(done, event, 1010.0).state is state
    else:
        with pytest.raises(InvalidTransition):
            advance(done, event, 1010.0)


@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_versions_rise_and_no_path_leaves_a_terminal_state(events: list[Event]) -> None:
    operation = NEW
    for n, event in enumerate(events):
        try:
            changed = advance(operation, event, 1000.0 + n)
        except InvalidTransition:
            continue
        assert changed.version == operation.version + 1
        assert changed.id == operation.id
        if operation.is_terminal:
            assert changed.state is operation.state
        operation = changed


def test_every_state_in_flight_can_end() -> None:
    for state in set(State) - TERMINAL:
        assert (state, Ended) in TRANSITIONS
        assert (state, CancelRequested) in TRANSITIONS


@pytest.mark.parametrize(
    ("now", "is_dead", "abandoned"),
    [
        (1031.0, False, True),
        (1030.9, False, False),
        (1001.0, True, True),  # whatever its lease says
    ],
)
def test_who_is_abandoned(now: float, is_dead: bool, abandoned: bool) -> None:
    assert is_abandoned(RUNNING, now, is_dead=is_dead) is abandoned
    assert is_abandoned(CANCELLING, now, is_dead=is_dead) is abandoned
    assert not is_abandoned(SUCCEEDED, now, is_dead=is_dead)
    assert not is_abandoned(NEW, now, is_dead=is_dead)


def test_records_survive_their_encoding() -> None:
    progress = Progress(1.5, 3, "häl\0f")
    trailing = replace(result(), trailers=((b"x-sum", b"1"),))
    for record in (
        NEW,
        CANCELLING,
        replace(SUCCEEDED, progress=progress, result=trailing, owner="ü"),
        advance(RUNNING, Ended(Reason.SHUTDOWN), 1.0),
    ):
        assert decode(encode(record)) == record


def test_what_a_newer_version_wrote_is_kept() -> None:
    newer = encode(SUCCEEDED).replace('{"v":1', '{"v":2,"colour":"blue"')
    read = decode(newer)
    assert read.unknown == {"colour": "blue"}
    assert '"colour":"blue"' in encode(read)


def test_progress_is_kept_by_what_ends_an_operation() -> None:
    moved = advance(RUNNING, Renewed(30.0, Progress(1, 2)), 1002.0)
    news = Progress(2, 2)
    pairs: list[tuple[Event, Progress]] = [
        (Responded(result()), Progress(1, 2)),
        (Responded(result(), news), news),
        (Ended(Reason.EXCEPTION), Progress(1, 2)),
        (Ended(Reason.EXCEPTION, news), news),
    ]
    for event, progress in pairs:
        assert advance(moved, event, 1003.0).progress == progress


def test_a_renewal_without_news_is_not_an_update() -> None:
    renewed = advance(RUNNING, Renewed(30.0), 1020.0)
    assert (renewed.updated, renewed.lease) == (1001.0, 1050.0)


@pytest.mark.parametrize(
    ("changes", "is_mere"),
    [
        ({}, True),
        ({"lease": 1050.0, "polled": 1040.0, "version": 9}, True),
        ({"updated": 1040.0}, False),
        ({"progress": Progress(1)}, False),
        ({"state": State.CANCELLING}, False),
    ],
)
def test_a_renewal_that_nobody_would_see_is_one_of_lease_and_polls_only(
    changes: dict[str, Any], is_mere: bool
) -> None:
    assert is_mere_renewal(RUNNING, replace(RUNNING, **changes)) is is_mere


def test_whose_lease_never_ends_is_abandoned_only_when_dead() -> None:
    forever = replace(RUNNING, lease=None)
    assert not is_abandoned(forever, 1e9, is_dead=False)
    assert is_abandoned(forever, 1e9, is_dead=True)


@pytest.mark.parametrize(
    ("operation", "fence", "is_over"),
    [
        (None, 1, False),
        (replace(NEW, fence=1), 1, True),  # it was released
        (RUNNING, 1, False),
        (CANCELLING, 1, False),
        (SUCCEEDED, 1, True),
        (replace(RUNNING, fence=2), 1, True),
        (replace(SUCCEEDED, fence=2), 3, False),
        (replace(RUNNING, fence=1), 2, False),
        (SUCCEEDED, 0, False),  # the request's body
        (replace(RUNNING, fence=5), 0, False),
    ],
)
def test_who_writes_under_a_claim_that_is_over_is_overtaken(
    operation: Operation | None, fence: int, is_over: bool
) -> None:
    assert is_overtaken(operation, fence) is is_over


@pytest.mark.parametrize(
    ("application", "name"),
    [(None, None), ("shop", "shop"), ("shop\n/v1", "shop"), ("a\nb\n/v1", "a\nb")],
)
def test_an_application_has_its_name_wherever_it_is_mounted(
    application: str | None, name: str | None
) -> None:
    assert replace(NEW, application=application).application_name == name


def test_somebody_wants_it_from_the_start_and_with_each_poll() -> None:
    assert NEW.last_asked == 1000.0
    assert replace(NEW, polled=1005.0).last_asked == 1005.0


def test_a_log_says_never_the_whole_id() -> None:
    assert NEW.id not in NEW.shown
    assert "POST '/reports'" in NEW.shown
    assert NEW.shown.startswith("aaaa")


def test_clients_are_told_canceled_and_else_what_the_record_says() -> None:
    assert {state.on_the_wire for state in State} == {
        *("accepted", "running", "cancelling", "succeeded", "failed", "canceled")
    }
    assert State.CANCELLED.on_the_wire == "canceled"


def test_records_and_clients_are_told_reasons_by_these_names() -> None:
    assert [reason.value for reason in Reason] == [
        *("exception", "interrupted", "timeout", "response_too_large", "response_lost"),
        *("shutdown", "expired_before_start", "response_discarded", "owner_unknown"),
        "too_many_operations",
    ]


def test_a_state_says_whether_it_is_over_and_whether_somebody_runs_the_handler() -> None:
    claimed, over = {"running", "cancelling"}, {"succeeded", "failed", "cancelled"}
    assert claimed == CLAIMED
    assert over == TERMINAL
    assert {"accepted"} | claimed == IN_FLIGHT
    assert {"accepted"} | over == SETTLED


def test_these_statuses_ask_a_client_to_come_again() -> None:
    assert {429, 502, 503, 504} == PASSING


def test_of_an_operation_no_more_needs_to_be_said_than_what_was_asked_when() -> None:
    named = {"version": 1, "unbound": False, "fence": 0, "forgotten": False, "deliveries": 0}
    flags = {"repeatable": False, "captured": False, "coalesced": False, "unbegun": 0}
    absent = dict.fromkeys(
        (
            *("owner", "queue", "worker", "lease", "expires", "progress", "reason", "result"),
            *("fingerprint", "application", "code", "webhook", "polled", "form_token"),
            *("not_before", "started"),
        )
    )
    least: dict[str, Any] = {
        name: getattr(NEW, name)
        for name in ("id", "state", "created", "updated", "retention", "method", "route")
    }
    assert asdict(NEW) == least | named | flags | absent | {"unknown": {}}
    assert Progress(1) == Progress(1, None, None)
    assert Result(200, (), 0, 1, 1) == Result(200, (), 0, 1, 1, (), None, None)


@pytest.mark.parametrize(("started", "begun"), [(None, 1000.0), (1005.0, 1005.0)])
def test_a_handler_has_begun_when_it_did_or_else_when_it_was_accepted(
    started: float | None, begun: float
) -> None:
    assert replace(NEW, started=started).begun == begun


def test_attempts_are_the_claims_under_which_the_handler_was_begun() -> None:
    assert replace(NEW, fence=3, unbegun=1).attempts == 2


@pytest.mark.parametrize(
    ("not_before", "is_it"), [(None, True), (999.0, True), (1000.0, True), (1000.1, False)]
)
def test_what_waits_for_workers_is_due_from_its_time_on(
    not_before: float | None, is_it: bool
) -> None:
    assert is_due(replace(NEW, not_before=not_before), 1000.0) is is_it


WEEK = 604_800.0


@pytest.mark.parametrize(
    ("changes", "patience"),
    [
        ({}, 60.0),
        ({"updated": 1010.0}, 70.0),
        ({"not_before": 1020.0}, 80.0),
        ({"updated": 1010.0, "not_before": 1005.0}, 70.0),
        ({"queue": "nightly"}, WEEK),
        ({"queue": "nightly", "not_before": 1020.0}, WEEK + 20),
        ({"queue": "nightly", "retention": WEEK + 5}, WEEK + 5),
    ],
)
def test_nobody_waits_longer_than_for_a_response_and_in_a_queue_than_a_week(
    changes: dict[str, Any], patience: float
) -> None:
    operation = replace(NEW, **changes)
    assert not has_waited_in_vain(operation, 1000.0 + patience)
    assert has_waited_in_vain(operation, 1000.5 + patience)


@pytest.mark.parametrize(
    ("changes", "may_be"),
    [
        ({}, False),
        ({"unbound": True}, True),
        ({"queue": "nightly"}, True),
        ({"queue": "nightly", "owner": "anne"}, False),
        ({"owner": "anne"}, False),
    ],
)
def test_whose_it_is_may_turn_out_while_it_is_unbound_or_waits_for_workers(
    changes: dict[str, Any], may_be: bool
) -> None:
    assert may_be_owned(replace(NEW, **changes)) is may_be
