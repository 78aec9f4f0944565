"""Whether a representation is to be sent, and which part: RFC 9110 §13 and §14. Pure."""

from __future__ import annotations

import re

from raincheck.http.dates import http_date
from raincheck.http.messages import Request

_READING = ("GET", "HEAD")


def is_not_modified(request: Request, etag: bytes | None, modified: bytes | None) -> bool:
    """Tell whether a GET or HEAD may be answered 304 (§13.2.2); a date that is none is ignored."""
    if request.method not in _READING:
        return False
    unwanted = request.header(b"if-none-match")
    if unwanted is not None:
        return _matches_any(unwanted, etag)
    since, last = http_date(request.header(b"if-modified-since")), http_date(modified)
    return since is not None and last is not None and last <= since


def precondition_fails(request: Request, etag: bytes | None, modified: bytes | None) -> bool:
    """Tell whether a condition forbids what is asked for (§13.1.1, §13.1.2, §13.1.4)."""
    expected = request.header(b"if-match")
    if expected is not None:
        is_expected = _matches_any(expected, etag, weak=False)
    else:
        since, last = http_date(request.header(b"if-unmodified-since")), http_date(modified)
        is_expected = since is None or last is None or last <= since
    unwanted = request.header(b"if-none-match")
    if not is_expected or unwanted is None or request.method in _READING:
        return not is_expected
    return _matches_any(unwanted, etag)


_ENTITY_TAG = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def _matches_any(field: bytes, etag: bytes | None, weak: bool = True) -> bool:
    if field.strip() == b"*":
        return True
    if etag is None or (not weak and etag.startswith(b"W/")):
        return False
    tags = _ENTITY_TAG.findall(field)
    if weak:  # §8.8.3.2: weak comparison looks at the opaque part only
        return etag.removeprefix(b"W/") in {tag.removeprefix(b"W/") for tag in tags}
    return etag in tags


class RangeNotSatisfiable(Exception):
    """The range lies outside of the representation (RFC 9110 §15.5.17)."""


_BYTE_RANGE = re.compile(
    rb"bytes=[ \t,]*+(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))[ \t,]*+", re.IGNORECASE
)


def requested_range(
    request: Request, length: int, etag: bytes | None, modified: bytes | None
) -> tuple[int, int] | None:
    """Return the one byte range asked for as (start, stop), or None to send all.

    Several ranges, other units and what can't be parsed are ignored, as §14.2 allows: a client that
    asks for several has to expect the whole (§15.3.7.2).

    Raises:
        RangeNotSatisfiable: The range begins behind the end, or is empty.
    """
    value = request.header(b"range")
    match = _BYTE_RANGE.fullmatch(value) if value else None
    if request.method != "GET" or match is None or not _same_as_before(request, etag, modified):
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, stop = max(0, length - int(suffix)), length
        if not length and int(suffix):  # §14.1.2: satisfiable, but a 206 can't be empty
            return None
    else:
        start, stop = int(first), min(int(last) + 1 if last else length, length)
        if last and int(last) < int(first):  # §14.1.1: an invalid range is ignored
            return None
    if start >= stop:
        raise RangeNotSatisfiable
    return start, stop


def _same_as_before(request: Request, etag: bytes | None, modified: bytes | None) -> bool:
    condition = request.header(b"if-range")
    if condition is None:
        return True
    if condition.startswith((b'"', b"W/")):  # §13.1.5: only a strong match counts
        return etag is not None and condition == etag and not etag.startswith(b"W/")
    date = http_date(condition)
    return date is not None and date == http_date(modified)
