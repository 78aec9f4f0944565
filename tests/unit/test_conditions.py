"""Which conditions hold, and which range is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.http.conditions import (
    RangeNotSatisfiable,
    is_not_modified,
    precondition_fails,
    requested_range,
)
from raincheck.http.messages import Request


def request(*headers: tuple[bytes, bytes], method: str = "GET") -> Request:
    return Request(method, "/", headers=headers)


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


A, B = b'"a"', b'"b"'


@pytest.mark.parametrize(
    ("method", "headers", "etag", "modified", "fails"),
    [
        ("DELETE", (), A, EARLY, False),
        ("DELETE", ((b"if-unmodified-since", EARLY),), None, EARLY, False),
        ("DELETE", ((b"if-match", B), (b"if-none-match", B)), A, None, True),
        ("DELETE", ((b"if-match", A), (b"if-none-match", A)), A, None, True),
        ("DELETE", ((b"if-match", A), (b"if-none-match", B)), A, None, False),
        ("DELETE", ((b"if-match", A),), None, None, True),
        ("DELETE", ((b"if-none-match", A),), None, None, False),
        ("HEAD", ((b"if-none-match", A),), A, None, False),
    ],
)
def test_a_precondition_fails_where_one_of_all_does(
    method: str,
    headers: tuple[tuple[bytes, bytes], ...],
    etag: bytes | None,
    modified: bytes | None,
    fails: bool,
) -> None:
    assert precondition_fails(request(*headers, method=method), etag, modified) is fails


def test_a_head_is_not_modified_like_a_get() -> None:
    assert is_not_modified(request((b"if-none-match", A), method="HEAD"), A, None)


@pytest.mark.parametrize(
    ("condition", "etag"), [(b'W/"a"', b'W/"a"'), (b"yesterday", None), (b'"a"', None)]
)
def test_if_range_holds_for_nothing_that_is_not_surely_the_same(
    condition: bytes, etag: bytes | None
) -> None:
    asked = request((b"range", b"bytes=0-1"), (b"if-range", condition))
    assert requested_range(asked, 10, etag, None) is None


def test_of_an_empty_body_the_last_bytes_are_all_and_no_bytes_are_none() -> None:
    assert requested_range(request((b"range", b"bytes=-5")), 0, None, None) is None
    with pytest.raises(RangeNotSatisfiable):
        requested_range(request((b"range", b"bytes=-0")), 0, None, None)
