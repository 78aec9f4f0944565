"""What a client would rather have: `Prefer` (RFC 7240) and `Accept` (RFC 9110 §12.5.1). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


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
    return asks_for(_EVENTS, accept)


def prefers_events(accept: bytes | None) -> bool:
    """Tell whether a client likes no other media type as much as `text/event-stream`.

    A range does not count: `*/*` is what clients add to what they want.
    """
    if not asks_for_events(accept):
        return False
    ranges = dict(_media_ranges(accept or b""))
    liked = ranges.pop(_EVENTS)
    return all(weight < liked for name, weight in ranges.items() if b"*" not in name)


def asks_for(media_type: bytes, accept: bytes | None) -> bool:
    """Tell whether `Accept` names a media type."""
    if accept is None or len(accept) > _ACCEPT_LIMIT or media_type not in accept.lower():
        return False
    return dict(_media_ranges(accept)).get(media_type, 0) > 0


def prefers(accept: bytes | None, media_type: bytes, *, over: bytes) -> bool:
    """Tell whether `Accept` names a media type, and rates it higher than another one."""
    if not asks_for(media_type, accept) or accept is None:
        return False
    ranges = dict(_media_ranges(accept))
    names = (over, over.split(b"/")[0] + b"/*", b"*/*")
    return ranges[media_type] > next((ranges[name] for name in names if name in ranges), 0)


def _media_ranges(value: bytes) -> Iterator[tuple[bytes, float]]:
    for member in value.split(b","):
        name, *parameters = (part.strip().lower() for part in member.split(b";"))
        weight = next((p[2:] for p in parameters if p.startswith(b"q=")), b"1")
        yield name, float(weight) if re.fullmatch(rb"[01](\.\d{0,3})?", weight) else 1.0
