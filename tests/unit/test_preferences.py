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
        (b"wait=99999999999999", NO_PREFERENCES),
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
        (b"text/event-stream," + b"a/b," * 2_000, False),
    ],
)
def test_who_asks_for_events_names_them(value: bytes | None, asks: bool) -> None:
    assert asks_for_events(value) is asks


@given(st.binary(max_size=100))
def test_accept_never_fails(value: bytes) -> None:
    accepts(value, b"application/json")
