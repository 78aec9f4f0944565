"""HTTP messages as values, and what the standards say about reading their header fields.

Header fields are a tuple of byte pairs in the order they came, repeated ones included: a dict
loses the second `Set-Cookie`. Everything here is about HTTP and nothing about operations. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

Headers = tuple[tuple[bytes, bytes], ...]

# RFC 9110 §7.6.1, and what older peers take for connection fields.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
WITHOUT_CONTENT = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it reached the application, enough to run it again.

    `path` is decoded and includes `root_path` as the server gave it, `raw_path` is as it was sent.
    Where the body is kept, it has `length` bytes in chunks of `chunk_size`, the last one shorter.
    """

    method: str
    path: str
    scheme: str = "http"
    http_version: str = "1.1"
    raw_path: bytes = b""
    query: bytes = b""
    root_path: str = ""
    headers: Headers = ()
    client: tuple[str, int] | None = None
    server: tuple[str, int | None] | None = None
    length: int = 0
    chunk_size: int = 0

    def header(self, name: bytes) -> bytes | None:
        """Return the field's value, repeated ones joined (RFC 9110 §5.3); None where absent."""
        return field_value(self.headers, name)


@dataclass(frozen=True, slots=True)
class StoredBody:
    """The bytes `start` to `stop` (exclusive) of a body that the store keeps in chunks."""

    operation_id: str
    fence: int
    chunk_size: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Response:
    """A response to send; its body is here or in the store."""

    status: int
    headers: Headers = ()
    body: bytes | StoredBody = b""
    trailers: Headers = ()

    def header(self, name: bytes) -> bytes | None:
        """Return the field's value, repeated ones joined (RFC 9110 §5.3); None where absent."""
        return field_value(self.headers, name)


def field_value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return the value of a field, repeated ones joined with a comma (RFC 9110 §5.3)."""
    values = [value for key, value in headers if key.lower() == name]
    return b", ".join(values) if values else None


def without(headers: Iterable[tuple[bytes, bytes]], names: frozenset[bytes]) -> Headers:
    """Drop the named fields and keep the rest in order."""
    return tuple((name, value) for name, value in headers if name.lower() not in names)


def connection_options(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Name the fields that `Connection` declares hop-by-hop (RFC 9110 §7.6.1)."""
    value = field_value(headers, b"connection") or b""
    return frozenset(option.strip().lower() for option in value.split(b",")) - {b""}


# --- Prefer (RFC 7240) -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a client prefers, of what raincheck understands; the rest is ignored (RFC 7240 §2)."""

    respond_async: bool = False
    wait: int | None = None
    strict: bool = False


NO_PREFERENCES = Preferences()
_PREFER_LIMIT = 1024  # bytes; more is nobody's preference
_PREFERENCE = re.compile(
    # Possessive: a field that does not match costs no more than one that does.
    rb"""[ \t]*+([!#$%&'*+.^_`|~0-9A-Za-z-]++)                        # token
         (?:[ \t]*+=[ \t]*+("(?:[^"\\]|\\.)*+"|[^\s,;"]*+))?            # value
         (?:[ \t]*+;(?:"(?:[^"\\]|\\.)*+"|[^,"])*+)?[ \t]*+(?:,|$)      # parameters, ignored""",
    re.VERBOSE,
)


def parse_prefer(value: bytes | None) -> Preferences:
    """Read `Prefer`: tokens know no case, the first of a kind wins, the unknown is ignored."""
    if not value or len(value) > _PREFER_LIMIT:
        return NO_PREFERENCES
    found: dict[bytes, bytes] = {}
    position = 0
    while position < len(value):
        match = _PREFERENCE.match(value, position)
        if match is None:  # malformed: skip this member
            position = (value.find(b",", position) + 1) or len(value)
            continue
        found.setdefault(match[1].lower(), (match[2] or b"").strip(b'"'))
        position = match.end()
    return Preferences(
        respond_async=b"respond-async" in found,
        wait=_delta_seconds(found.get(b"wait")),
        strict=found.get(b"handling", b"").lower() == b"strict",
    )


def _delta_seconds(value: bytes | None) -> int | None:
    return int(value) if value and value.isdigit() and len(value) < 10 else None


# --- Accept (RFC 9110 §12.5.1) -----------------------------------------------------------------


_ACCEPT_LIMIT = 4096  # bytes; more would only cost time


def accepts(value: bytes | None, media_type: bytes) -> bool:
    """Tell whether `Accept` allows a media type; the most specific range decides."""
    if value is None or not value.strip() or len(value) > _ACCEPT_LIMIT:
        return True
    main = media_type.split(b"/")[0] + b"/*"
    ranges = dict(_media_ranges(value))
    for candidate in (media_type, main, b"*/*"):
        if candidate in ranges:
            return ranges[candidate] > 0
    return False


_EVENTS = b"text/event-stream"


def asks_for_events(accept: bytes | None) -> bool:
    """Tell whether `Accept` names `text/event-stream`, which is read as it comes.

    `*/*` does not: it takes whatever there is.
    """
    if accept is None or len(accept) > _ACCEPT_LIMIT or _EVENTS not in accept.lower():
        return False
    return dict(_media_ranges(accept)).get(_EVENTS, 0) > 0


def _media_ranges(value: bytes) -> Iterator[tuple[bytes, float]]:
    for member in value.split(b","):
        name, *parameters = (part.strip().lower() for part in member.split(b";"))
        weight = next((p[2:] for p in parameters if p.startswith(b"q=")), b"1")
        yield name, float(weight) if re.fullmatch(rb"[01](\.\d{0,3})?", weight) else 1.0


# --- Dates (RFC 9110 §5.6.7) -------------------------------------------------------------------


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


# --- Conditional requests (RFC 9110 §13) -------------------------------------------------------


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


# --- Range (RFC 9110 §14) ----------------------------------------------------------------------


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
