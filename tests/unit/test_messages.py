"""What the HTTP standards say about header fields."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.http.conditions import (
    RangeNotSatisfiable,
    is_not_modified,
    precondition_fails,
    requested_range,
)
from raincheck.http.dates import http_date
from raincheck.http.messages import Request, connection_options, field_value, without
from raincheck.http.preferences import (
    NO_PREFERENCES,
    Preferences,
    accepts,
    asks_for_events,
    parse_prefer,
)


def request(*headers: tuple[bytes, bytes], method: str = "GET") -> Request:
    return Request(method, "/", headers=headers)


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


@pytest.mark.parametrize(
    ("field", "etag", "matches"),
    [
        (b'"a"', b'"a"', True),
        (b'W/"a"', b'"a"', True),
        (b'"b", "a"', b'W/"a"', True),
        (b'"b"', b'"a"', False),
        (b"*", b'"a"', True),
        (b"a", b'"a"', False),
        (b'"a', b'"a"', False),
    ],
)
def test_if_none_match_compares_weakly(field: bytes, etag: bytes, matches: bool) -> None:
    assert is_not_modified(request((b"if-none-match", field)), etag, None) is matches


def test_if_match_compares_strongly() -> None:
    assert not precondition_fails(request((b"if-match", b'"a"')), b'"a"', None)
    assert precondition_fails(request((b"if-match", b'"b"')), b'"a"', None)
    assert precondition_fails(request((b"if-match", b'W/"a"')), b'W/"a"', None)
    assert not precondition_fails(request((b"if-match", b"*")), b'"a"', None)


EARLY, LATE = b"Sat, 01 Nov 2025 10:00:00 GMT", b"Sat, 01 Nov 2025 10:00:01 GMT"


def test_dates_count_where_there_is_no_tag_to_compare() -> None:
    since = request((b"if-modified-since", EARLY))
    assert is_not_modified(since, None, EARLY)
    assert not is_not_modified(since, None, LATE)
    assert not is_not_modified(since, None, None)
    for none in (b"yesterday", b"", b"2025-11-01T10:00:00Z", LATE.replace(b"GMT", b"+0000")):
        assert not is_not_modified(request((b"if-modified-since", none)), None, EARLY)
        assert not precondition_fails(request((b"if-unmodified-since", none)), None, LATE)
        assert not precondition_fails(request((b"if-unmodified-since", EARLY)), None, none)
    both = request((b"if-none-match", b'"b"'), (b"if-modified-since", LATE))
    assert not is_not_modified(both, b'"a"', EARLY)
    assert precondition_fails(request((b"if-unmodified-since", EARLY)), None, LATE)
    assert not precondition_fails(request((b"if-unmodified-since", LATE)), None, EARLY)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"Sun, 06 Nov 1994 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        (b"Sun Nov  6 08:49:37 1994", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        (b"Thursday, 06-Nov-25 08:49:37 GMT", datetime(2025, 11, 6, 8, 49, 37, tzinfo=UTC)),
        (b"Sat, 31 Dec 2016 23:59:60 GMT", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (b"Sun, 06 Nov 1994 08:49:37 +0000", None),
        (b"Sun, 6 Nov 1994 08:49:37 GMT", None),
        (b"sun, 06 nov 1994 08:49:37 gmt", None),
        (b"Mon, 31 Feb 1994 08:49:37 GMT", None),
        (b"Sun, 06 Nov 0000 08:49:37 GMT", None),
        (b"Sun, 06 Nov 1994 25:49:37 GMT", None),
        (b"784111777", None),
        (b"", None),
        (None, None),
    ],
)
def test_a_date_has_three_forms(value: bytes | None, expected: datetime | None) -> None:
    assert http_date(value) == expected


def test_a_year_of_two_digits_is_at_most_fifty_years_ahead() -> None:
    now = datetime.now(UTC).year
    for year in range(now - 49, now + 51):
        found = http_date(b"Sunday, 06-Nov-%02d 08:49:37 GMT" % (year % 100))
        assert found is not None
        assert found.year == year


@given(st.binary(max_size=50))
def test_whatever_comes_is_a_date_or_none(value: bytes) -> None:
    http_date(value)


def test_if_none_match_forbids_other_methods_than_reading() -> None:
    has_it = (b"if-none-match", b'"a"')
    assert precondition_fails(request(has_it, method="DELETE"), b'"a"', None)
    assert not precondition_fails(request(has_it, method="DELETE"), b'"b"', None)
    assert not precondition_fails(request(has_it), b'"a"', None)
    assert not is_not_modified(request(has_it, method="DELETE"), b'"a"', None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bytes=0-4", (0, 5)),
        (b"bytes=, 0-4 ,", (0, 5)),
        (b"bytes=0-4,0-4", None),
        (b"bytes=10-,20-", None),
        (b"bytes=5-", (5, 10)),
        (b"bytes=-3", (7, 10)),
        (b"bytes=-30", (0, 10)),
        (b"BYTES=2-100", (2, 10)),
        (b"bytes=9-9", (9, 10)),
        (b"bytes=4-2", None),
        (b"bytes=0-1,3-4", None),
        (b"lines=1-2", None),
        (b"bytes=a-b", None),
        (b"bytes=-", None),
    ],
)
def test_ranges(value: bytes, expected: tuple[int, int] | None) -> None:
    assert requested_range(request((b"range", value)), 10, None, None) == expected


@pytest.mark.parametrize("value", [b"bytes=10-", b"bytes=99-100", b"bytes=-0"])
def test_a_range_behind_the_end_is_not_satisfiable(value: bytes) -> None:
    with pytest.raises(RangeNotSatisfiable):
        requested_range(request((b"range", value)), 10, None, None)


def test_a_range_is_for_get_only() -> None:
    head = request((b"range", b"bytes=0-1"), method="HEAD")
    assert requested_range(head, 10, None, None) is None


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        *((b'"a"', True), (b'"b"', False), (b'W/"a"', False), (EARLY, True), (LATE, False)),
        *((b"Sat Nov  1 10:00:00 2025", True), (b"yesterday", False)),
    ],
)
def test_if_range(condition: bytes, applies: bool) -> None:
    asked = request((b"range", b"bytes=0-1"), (b"if-range", condition))
    assert (requested_range(asked, 10, b'"a"', EARLY) is not None) is applies


@given(st.binary(max_size=60), st.integers(0, 10**9))
def test_any_range_is_within_the_body_or_refused(value: bytes, length: int) -> None:
    try:
        found = requested_range(request((b"range", b"bytes=" + value)), length, None, None)
    except RangeNotSatisfiable:
        return
    assert found is None or 0 <= found[0] < found[1] <= length


def test_repeated_fields_are_joined_and_names_know_no_case() -> None:
    assert field_value([(b"A", b"1"), (b"b", b"2"), (b"a", b"3")], b"a") == b"1, 3"
    assert field_value([], b"a") is None
    assert without([(b"Date", b""), (b"x", b"1")], frozenset({b"date"})) == ((b"x", b"1"),)
    assert connection_options([(b"Connection", b"Close, X-Hop")]) == {b"close", b"x-hop"}
