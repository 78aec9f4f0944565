"""Dates as header fields have them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.http.dates import http_date, timestamp


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


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_795_000_000.25, "2026-11-18T11:06:40.250000Z"),
    ],
)
def test_a_time_is_written_in_utc_with_its_microseconds(seconds: float, written: str) -> None:
    assert timestamp(seconds) == written
