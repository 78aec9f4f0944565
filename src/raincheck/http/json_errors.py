"""What a JSON error response says of itself: a code for programs, a message for people. Pure.

Every framework has a shape of its own. A code and a message are looked for where most have them: in
the document, or in its member `error`. Nothing else of it is taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raincheck.http.messages import Headers, field_value

LARGEST_ERROR = 64 * 1024  # bytes; what is larger says more than a message
_LONGEST_CODE = 100  # characters
_LONGEST_MESSAGE = 1000  # characters, as of progress
_JSON = re.compile(rb"\s*application/(?:[!#$&^_.0-9a-z-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
# RFC 9457 has `detail` and `title`, Django REST framework and FastAPI `detail`.
_MESSAGES = ("message", "detail", "title")


@dataclass(frozen=True, slots=True)
class Said:
    """What an error says of itself; None where it doesn't."""

    code: str | None = None
    message: str | None = None


NOTHING_SAID = Said()


def error_of(headers: Headers, body: bytes) -> Said:
    """Read an error response; one that is no JSON, or of another shape, says nothing."""
    kind = field_value(headers, b"content-type") or b""
    if not _JSON.fullmatch(kind) or field_value(headers, b"content-encoding") is not None:
        return NOTHING_SAID
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return NOTHING_SAID
    if not isinstance(document, dict):
        return NOTHING_SAID
    error = document.get("error")
    if isinstance(error, str):
        return Said(_code(document), _message(document) or _text(error, _LONGEST_MESSAGE))
    members = error if isinstance(error, dict) else document
    return Said(_code(members), _message(members))


def _code(members: Mapping[str, Any]) -> str | None:
    code = members.get("code")
    if isinstance(code, int) and not isinstance(code, bool):  # as JSON-RPC has it
        code = str(code)
    # A code that was cut would be another one.
    return _text(code) if isinstance(code, str) and len(code) <= _LONGEST_CODE else None


def _message(members: Mapping[str, Any]) -> str | None:
    texts = (_text(members.get(name), _LONGEST_MESSAGE) for name in _MESSAGES)
    return next((text for text in texts if text), None)


def _text(value: object, longest: int | None = None) -> str | None:
    """Take a text, even with half a character in it, as what records can hold; None: it is none."""
    if not isinstance(value, str):
        return None
    return value[:longest].replace("\0", "").encode("utf-8", "replace").decode("utf-8") or None
