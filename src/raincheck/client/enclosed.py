"""OData's end of an operation: its response in place, or as a message in the body. Pure."""

from __future__ import annotations

from raincheck.client.fields import BODY_LIMIT, Fields, decoded, value_of

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "trailer", "upgrade"})


class NotEnclosed(ValueError):
    """The body is no HTTP message that can be read."""


def unpacked(status: int, fields: Fields, body: bytes | None) -> tuple[int, Fields, bytes | None]:
    """Return the response that an answer with `AsyncResult` stands for.

    Returns:
        Status, fields and body; a body of None is the answer's own.

    Raises:
        NotEnclosed: It can't be read.
    """
    told = (value_of(fields, "asyncresult") or "").strip()
    own = tuple(field for field in fields if field[0] != "asyncresult")
    kind = (value_of(fields, "content-type") or "").lower()
    if not kind.startswith("application/http"):
        return _status(told, status), own, None
    message = decoded(body, fields) if body is not None else None
    if message is None:
        raise NotEnclosed(f"the enclosed message is not readable, or has more than {BODY_LIMIT} B")
    return _parsed(message)


def _parsed(message: bytes) -> tuple[int, Fields, bytes]:
    head, found, body = message.partition(b"\r\n\r\n")
    if not found:
        head, found, body = message.partition(b"\n\n")
    first, *lines = head.decode("latin-1").splitlines() or [""]
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/"):
        raise NotEnclosed("the enclosed message has no status line")
    pairs = (line.partition(":") for line in lines)
    fields = tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)
    return _status(rest[:3], 0), tuple(f for f in fields if f[0] not in _HOP_BY_HOP), body


def _status(text: str, otherwise: int) -> int:
    if text.isascii() and text.isdigit() and 200 <= int(text) <= 599 and len(text) == 3:
        return int(text)
    if not otherwise:
        raise NotEnclosed("the enclosed message has no status")
    return otherwise
