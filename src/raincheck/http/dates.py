"""Dates as header fields (RFC 9110 §5.6.7) and documents (RFC 3339) have them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


_DAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"


_MONTH = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"


_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"


_DATES = (
    re.compile(_DAY + rb", (?P<day>\d\d) " + _MONTH + rb" (?P<year>\d{4}) " + _TIME + rb" GMT"),
    re.compile(
        rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-"
        + _MONTH
        + rb"-(?P<year>\d\d) "
        + _TIME
        + rb" GMT"
    ),
    re.compile(_DAY + rb" " + _MONTH + rb" (?P<day>[ \d]\d) " + _TIME + rb" (?P<year>\d{4})"),
)


def http_date(value: bytes | None) -> datetime | None:
    """Read a date in any of the three forms that recipients have to know; None: it is none."""
    matches = (form.fullmatch(value.strip()) for form in _DATES) if value is not None else ()
    match = next(filter(None, matches), None)
    if match is None:
        return None
    found = match.groupdict()
    year, month = int(found["year"]), _MONTHS.index(found["month"]) + 1
    day, hour, minute = (int(found[name]) for name in ("day", "hour", "minute"))
    second = min(int(found["second"]), 59)  # 60 is a leap second
    if len(found["year"]) == 2:
        year = _full_year(year)
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:  # the 31st of February
        return None


def _full_year(digits: int) -> int:
    """Complete a year: one that seems more than 50 years ahead is of the past."""
    now = datetime.now(UTC).year  # the one clock here, for a form that is obsolete since 1997
    year = now - now % 100 + digits
    return year - 100 if year > now + 50 else year


@lru_cache(maxsize=1024)
def timestamp(seconds: float) -> str:
    """Write a time as RFC 3339, in UTC."""
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )
