"""When an operation is expected to finish, and when the next poll is worthwhile."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.http.messages import Request
from raincheck.monitor import estimates, views
from raincheck.monitor.dialects import DIALECTS
from raincheck.monitor.links import Links, Resource
from raincheck.monitor.views import View
from raincheck.operations.durations import Sketch
from raincheck.operations.operation import Operation, Progress, State, is_stale
from raincheck.testing.material import make_operation

BEGUN = 1_000_000.0
LINKS = Links("https://example.org/operations/a", "/operations/a")


def past_of(*seconds: float, times: int = 1) -> Sketch:
    sketch = Sketch()
    for one in seconds * times:
        sketch = sketch.learn(one, BEGUN)
    return sketch


def running(**fields: Any) -> Operation:
    return make_operation(**({"created": BEGUN, "updated": BEGUN, "fence": 1} | fields))


def asked(operation: Operation, past: Sketch | None, *ages: float) -> list[int]:
    return [estimates.retry_after(operation, BEGUN + age, past) for age in ages]


def expected(operation: Operation, past: Sketch | None, age: float) -> float | None:
    found = estimates.estimate(operation, BEGUN + age, past)
    return None if found is None else round(found - BEGUN, 2)


REGULAR = past_of(8.0, times=20)
SOMETIMES_LONG = past_of(4.0, 4.0, 40.0, times=20)


def test_a_poll_is_told_to_come_when_regular_operations_are_over() -> None:
    assert asked(running(), REGULAR, 0, 1.5, 7.2) == [8, 7, 1]
    assert asked(running(), past_of(2.995, times=20), 0) == [3]


def polls_until(end: float, past: Sketch) -> tuple[int, float]:
    """Return how often a client polls that comes when it was told to, and when it sees the end."""
    age, polls = 0.0, 0
    while age < end:
        age += asked(running(), past, age)[0]
        polls += 1
    return polls, age


def test_a_poll_is_told_to_come_at_the_first_of_two_likely_ends_then_at_the_other() -> None:
    assert polls_until(4, SOMETIMES_LONG) == (1, 4)
    assert polls_until(40, SOMETIMES_LONG) == (3, 40)


def test_long_operations_take_as_few_polls_as_the_cap_allows() -> None:
    assert polls_until(90, past_of(90.0, times=20)) == (3, 90)


@pytest.mark.parametrize("past", [None, Sketch(), past_of(8.0, 8.0)])
def test_without_history_a_poll_comes_after_a_tenth_of_the_age(past: Sketch | None) -> None:
    assert asked(running(), past, -5, 0, 10, 10.1, 299, 1e6) == [1, 1, 1, 2, 30, 30]
    assert expected(running(), past, 0) is None


def test_an_operation_that_outlives_all_that_is_known_is_one_without_history() -> None:
    assert asked(running(), REGULAR, 8.0, 40, 299) == [1, 4, 30]
    assert expected(running(), REGULAR, 8.0) is None


@pytest.mark.parametrize(
    "operation",
    [
        running(state=State.ACCEPTED),
        running(state=State.CANCELLING),
        running(fence=2),
        running(fence=2, progress=Progress(5, 10), updated=BEGUN + 5),
    ],
    ids=["waits", "cancelling", "runs again", "with progress"],
)
def test_the_age_of_one_that_waits_or_runs_again_tells_nothing(operation: Operation) -> None:
    assert asked(operation, REGULAR, 0, 40) == [1, 4]
    assert expected(operation, REGULAR, 0) is None


@given(
    learned=st.lists(st.floats(0.01, 1e5), max_size=40),
    age=st.floats(-10, 1e5),
    done=st.floats() | st.none(),
    updated=st.floats(-5, 1e4),
)
def test_retry_after_has_bounds_whatever_is_known(
    learned: list[float], age: float, done: float | None, updated: float
) -> None:
    progress = None if done is None else Progress(done, 10)
    operation = running(progress=progress, updated=BEGUN + updated)
    past = past_of(*learned)
    assert 1 <= asked(operation, past, age)[0] <= 30
    estimate = estimates.estimate(operation, BEGUN + age, past)
    assert estimate is None or (estimate > BEGUN + age and math.isfinite(estimate))


def test_clients_that_repeat_a_shared_request_come_before_it_is_stale() -> None:
    shared = running(coalesced=True)
    for age in range(40):
        seconds = asked(shared, past_of(60.0, times=20), age)[0]
        end = BEGUN + age
        ended = replace(shared, state=State.SUCCEEDED, expires=end + shared.retention)
        assert not is_stale(ended, end + seconds + 3)


# --- progress ----------------------------------------------------------------------------------


def test_progress_tells_when_an_operation_is_over_of_whose_route_nothing_is_known() -> None:
    half = running(progress=Progress(5, 10), updated=BEGUN + 20)
    assert expected(half, None, 20) == 40
    assert asked(half, None, 20)[0] > 10
    assert asked(half, None, 39)[0] <= 5


def test_progress_outweighs_history_that_it_refutes() -> None:
    slow = running(progress=Progress(1, 10), updated=BEGUN + 7)
    assert expected(slow, REGULAR, 7) == 70
    assert expected(running(progress=Progress(1, 2), updated=BEGUN + 4), REGULAR, 4) == 8


@pytest.mark.parametrize(
    ("progress", "elapsed"),
    [
        *((Progress(5), 20), (Progress(0, 10), 20), (Progress(20, 10), 20), (Progress(5, 0), 20)),
        *(
            (Progress(math.nan, 10), 20),
            (Progress(-5, -10), -3),
            (Progress(10**400, 3), 20),
            (Progress(5, 10), 0.1),
        ),
    ],
)
def test_progress_that_has_no_rate_tells_nothing(progress: Progress, elapsed: float) -> None:
    operation = running(progress=progress, updated=BEGUN + elapsed)
    assert expected(operation, None, 25) is None
    assert asked(operation, None, 25) == [3]


# --- on the wire -------------------------------------------------------------------------------


def view(age: float, past: Sketch | None, **fields: Any) -> View:
    return View(running(**fields), LINKS, DIALECTS["location"], BEGUN + age, past=past)


def test_the_status_document_says_when_the_operation_is_expected_to_finish() -> None:
    document = views.status_document(view(0, REGULAR))
    assert list(document)[:5] == ["id", "status", "created", "updated", "estimate"]
    assert document["estimate"] == "1970-01-12T13:46:48.000000Z"
    assert "estimate" not in views.status_document(view(0, None))
    ended = view(0, REGULAR, state=State.SUCCEEDED, expires=BEGUN + 60)
    assert "estimate" not in views.status_document(ended)


def test_the_status_keeps_its_tag_while_nothing_is_learned() -> None:
    request = Request("GET", "/operations/a/status")
    draw = random.Random(1)  # noqa: S311
    past = past_of(*(10 * draw.lognormvariate(0, 0.5) for _ in range(60)))
    tags = [
        views.read(view(age, past), Resource.STATUS, request).header(b"etag") for age in range(60)
    ]
    changes = [a for a, b in pairwise(tags) if a != b]
    assert 0 < len(changes) <= len(estimates.SHARES)
    fields = ((b"if-none-match", tags[0] or b""),)
    again = replace(request, headers=fields)
    unchanged = views.read(view(1, past), Resource.STATUS, again)
    assert (unchanged.status, unchanged.header(b"retry-after")) == (
        304,
        b"%d" % asked(running(), past, 1)[0],
    )


def test_all_answers_of_one_that_runs_say_when_to_come_again() -> None:
    look = view(0, REGULAR)
    request = Request("GET", "/operations/a")
    answers = [
        views.started(look),
        views.read(look, Resource.RESPONSE, request),
        views.read(look, Resource.STATUS, request),
        views.read(look, Resource.RESULT, request),
        views.key_in_use(look),
    ]
    assert [answer.header(b"retry-after") for answer in answers] == [b"8"] * 5


def test_what_must_not_begin_yet_is_expected_after_that_and_polled_no_sooner() -> None:
    waiting = running(state=State.ACCEPTED, queue="nightly", not_before=BEGUN + 1000, fence=0)
    assert asked(waiting, None, 0, 400, 999.5) == [1000, 600, 1]
    assert asked(replace(waiting, not_before=BEGUN + 86_400), REGULAR, 0) == [3600]
    assert expected(waiting, None, 0) == 1000
    assert expected(waiting, REGULAR, 0) == 1008
    assert expected(waiting, None, 1001) is None  # nobody knows when a worker will come


def test_what_has_waited_for_a_worker_is_expected_from_its_handlers_begin_on() -> None:
    begun = running(queue="nightly", started=BEGUN + 500)
    assert expected(begun, REGULAR, 501) == 508
    assert asked(begun, REGULAR, 500) == [8]
    assert asked(begun, None, 500, 520) == [1, 2]
