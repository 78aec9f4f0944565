"""A token: what another process needs to go on polling. Pure.

It holds URLs and no credential; where a URL alone lets one in, so does the token.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass

from raincheck.client.errors import InvalidToken
from raincheck.client.fields import resolve

RESPONSE, MONITOR, RESULT = "response", "monitor", "result"  # what is at a place
_VERSION = 1
_LIMIT = 65_536  # characters


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operation is polled.

    Attributes:
        url: What is polled.
        kind: What is there: `response`, `monitor` or `result`.
        asked: The original request's URL: its origin is the one that gets credentials.
        method: The original request's method.
        result: Where the result will be, if that was said at the start.
        cancel: What is deleted to cancel it.
        id: What the server calls it.
    """

    url: str
    kind: str
    asked: str
    method: str
    result: str | None = None
    cancel: str | None = None
    id: str | None = None


def to_token(place: Place) -> str:
    """Write a place as one word."""
    text = json.dumps({"v": _VERSION, **asdict(place)}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def to_place(token: str) -> Place:
    """Read a token.

    Raises:
        InvalidToken: It is none, or not of this version.
    """
    if len(token) > _LIMIT:
        raise InvalidToken("this is no token of raincheck.client: it is too long")
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        values = json.loads(raw)
        version = values.pop("v")
        place = Place(**values)
    except (binascii.Error, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise InvalidToken("this is no token of raincheck.client") from None
    if version != _VERSION or not _is_sound(place):
        raise InvalidToken("this token is of another version of raincheck.client")
    return place


def _is_sound(place: Place) -> bool:
    texts = (place.url, place.kind, place.asked, place.method)
    optional = (place.result, place.cancel, place.id)
    urls = (place.url, place.asked, *filter(None, (place.result, place.cancel)))
    return (
        all(isinstance(text, str) for text in texts)
        and all(text is None or isinstance(text, str) for text in optional)
        and all(resolve(url, url) for url in urls)
    )
