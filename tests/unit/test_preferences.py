"""What `Prefer` and `Accept` ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.http.preferences import (
    NO_PREFERENCES,
    Preferences,
    accepts,
    asks_for_events,
    parse_prefer,
    prefers,
    prefers_events,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"respond-async", Preferences(respond_async=True)),
        (b"Respond-Async, WAIT=10", Preferences(True, 10)),
        (b'respond-async; foo="a,b", wait = 5', Preferences(True, 5)),
        (b'wait="7"', Preferences(wait=7)),
        (b"wait=1, wait=2", Preferences(wait=1)),
        (b"handling=Strict", Preferences(strict=True)),
        (b"handling=lenient", NO_PREFERENCES),
        (b"wait=-1", NO_PREFERENCES),
        (b"wait=1.5", NO_PREFERENCES),
        (b"wait=7X", NO_PREFERENCES),
        (b"wait=999999999", Preferences(wait=999_999_999)),
        (b"wait=1000000000", NO_PREFERENCES),
        (b"wait", NO_PREFERENCES),
        (b"wait=\xb2", NO_PREFERENCES),
        (b"return=minimal, odata.track-changes, x;y=z", NO_PREFERENCES),
        (b"respond-async-not", NO_PREFERENCES),
        (b'foo="respond-async"', NO_PREFERENCES),
        (b"@@@ , respond-async", Preferences(respond_async=True)),
        (b",,respond-async,,", Preferences(respond_async=True)),
        (b"respond-async" + b" " * 2000, NO_PREFERENCES),
        (b"respond-async".ljust(1024), Preferences(respond_async=True)),
        (b"respond-async".ljust(1025), NO_PREFERENCES),
        (b"", NO_PREFERENCES),
        (None, NO_PREFERENCES),
    ],
)
def test_prefer(value: bytes | None, expected: Preferences) -> None:
    assert parse_prefer(value) == expected


@given(st.binary(max_size=300))
def test_prefer_never_fails(value: bytes) -> None:
    parse_prefer(value)


@given(st.lists(st.sampled_from(b'a ";,=\\\t'), max_size=1024).map(bytes))
def test_prefer_takes_no_time_whatever_comes(value: bytes) -> None:
    parse_prefer(value)


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (None, True),
        (b"", True),
        (b"*/*", True),
        (b"application/*;q=0.1", True),
        (b"text/html, */*;q=0.8", True),
        (b"text/html", False),
        (b"application/json;q=0", False),
        (b"application/json;q=0, */*", False),
        (b"*/*;q=0", False),
        (b"APPLICATION/JSON", True),
        (b"application/json;charset=utf-8;q=nonsense", True),
        (b"application/json;q=0.000, */*", False),
        (b"application/json;q=0.0000", True),  # malformed
        (b"application/json;q=0;charset=utf-8", False),
        (b"*/*;q=0, application/*", True),
        (b"  ", True),
        (b"text/html".ljust(4096), False),
        (b"text/html".ljust(4097), True),  # nobody's wish
    ],
)
def test_accept(value: bytes | None, accepted: bool) -> None:
    assert accepts(value, b"application/json") is accepted


@pytest.mark.parametrize(
    ("value", "asks"),
    [
        (None, False),
        (b"text/event-stream", True),
        (b"Text/Event-Stream", True),
        (b"application/json, text/event-stream", True),
        (b"text/event-stream;q=0.5, */*", True),
        (b"text/event-stream;q=0", False),
        (b"text/event-streams", False),
        (b"text/*", False),
        (b"*/*", False),
        (b"text/event-stream".ljust(4096), True),
        (b"text/event-stream".ljust(4097), False),
    ],
)
def test_who_asks_for_events_names_them(value: bytes | None, asks: bool) -> None:
    assert asks_for_events(value) is asks


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (b"text/event-stream", True),
        (b"Text/Event-Stream;q=0.5", True),
        (b"text/event-stream, */*", True),
        (b"text/event-stream, text/*;q=0.9", True),
        (b"text/event-stream, application/json;q=0.5", True),
        (b"application/json, text/event-stream", False),
        (b"text/event-stream;q=0.5, application/json", False),
        (b"text/event-stream;q=0, */*", False),
        (b"*/*", False),
        (b"", False),
        (None, False),
    ],
)
def test_events_are_for_who_likes_nothing_else_as_much(
    accept: bytes | None, expected: bool
) -> None:
    assert prefers_events(accept) is expected


@pytest.mark.parametrize(
    ("accept", "is_preferred"),
    [
        (None, False),
        (b"", False),
        (b"text/*", False),
        (b"text/html", True),
        (b"application/json", False),
        (b"text/html, application/json", False),
        (b"text/html;q=0.5, */*;q=0.4", True),
        (b"text/html;q=0.5, */*;q=0.5", False),
        (b"text/html;q=0.5, application/*;q=0.6", False),
        (b"text/html;q=0.5, application/json;q=0.4, */*", True),
        (b"text/html," * 2000, False),
    ],
)
def test_html_is_preferred_where_accept_names_it_and_rates_it_higher(
    accept: bytes | None, is_preferred: bool
) -> None:
    assert prefers(accept, b"text/html", over=b"application/json") is is_preferred


@pytest.mark.parametrize(
    ("accept", "weight"),
    [
        (b"text/html;q=1", 1.0),
        (b"text/html;q=1.", 1.0),
        (b"text/html;q=0.5", 0.5),
        (b"text/html ; charset=utf-8 ; q=0.125", 0.125),
        (b"text/html;q=0.1;q=0.5", 0.1),
        (b"text/html", 1.0),
        (b"text/html;q=2", 1.0),  # malformed, like those below
        (b"text/html;q=", 1.0),
        (b"text/html;q=.5", 1.0),
        (b"text/html;q=0.1234", 1.0),
    ],
)
def test_a_media_type_has_the_weight_that_is_written_or_else_one(
    accept: bytes, weight: float
) -> None:
    less, same = (b"%s, a/b;q=%.3f" % (accept, other) for other in (weight - 0.001, weight))
    assert prefers(less, b"text/html", over=b"a/b")
    assert not prefers(same, b"text/html", over=b"a/b")


@given(st.binary(max_size=100))
def test_accept_never_fails(value: bytes) -> None:
    accepts(value, b"application/json")
