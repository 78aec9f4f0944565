"""What makes several requests one operation: `Idempotency-Key`, and being identical. Pure.

draft-ietf-httpapi-idempotency-key-header says what the header field is. A key is its owner's, and
of one route. Where no owner is known, whoever shows the same credentials is taken for the same:
`Authorization`, or else all cookies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256

from raincheck.messages import Request
from raincheck.options import Settings
from raincheck.policy import SAFE
from raincheck.starting import Key

_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
KEY_LENGTH = 255  # characters
# Structured fields have a string (RFC 9651 §3.3.3); most clients send it without the quotes.
_KEY = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"|([\x21\x23-\x2b\x2d-\x7e]+)')
_CREDENTIALS = (b"authorization", b"cookie")
# What may decide about the response to a safe request, beside its target.
_TELLING = (
    *(b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"content-type"),
    *(b"host", b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"origin"),
    *(b"if-unmodified-since", b"prefer", b"range", b"user-agent", b"x-requested-with"),
)


class NotAKeyError(ValueError):
    """The `Idempotency-Key` is empty, too long, or holds what it may not."""


def parse_key(value: bytes) -> str:
    """Read an `Idempotency-Key`.

    Raises:
        NotAKeyError: It is none.
    """
    match = _KEY.fullmatch(value.strip())
    if match is None or len(match[1] or match[2]) > KEY_LENGTH:
        raise NotAKeyError("an Idempotency-Key is a string of 1 to 255 visible characters")
    return (match[1] or match[2]).decode("ascii")


def may_have_key(method: str) -> bool:
    """Tell whether a key means anything: to repeat a safe request does no harm without."""
    return method not in SAFE


def key_of(
    name: str | None, request: Request, route: str, owner: str | None, body: Iterable[bytes]
) -> Key:
    """Return what makes a request one with others: its `Idempotency-Key`, or being identical.

    Args:
        name: The key as the client has sent it; None where there is none.
        route: The request's path, without the root path.
        body: All of it, in pieces of any size.
    """
    if name is None:
        return coalescing_key(request, route, owner)
    digest = sha256()
    for piece in body:
        digest.update(piece)
    return idempotency_key(name, request, route, owner, digest.digest())


def plain_methods(settings: Settings) -> frozenset[str]:
    """Name methods whose requests are never one with another request."""
    safe = frozenset[str]() if settings.coalesce else SAFE
    return safe if settings.idempotency_keys else safe | _UNSAFE


def idempotency_key(
    name: str, request: Request, route: str, owner: str | None, body_digest: bytes
) -> Key:
    """Return what a request with an `Idempotency-Key` is known by.

    Args:
        name: The key as the client has sent it.
        route: The request's path, without the root path.
        body_digest: Of the request's body.
    """
    value = _digest([b"idempotency", *_principal(request, owner), *_target(request, route), name])
    content = request.header(b"content-type") or b""
    return Key(value, _digest([request.query, content, body_digest]))


def coalescing_key(request: Request, route: str, owner: str | None) -> Key:
    """Return what identical safe requests are known by."""
    telling = [request.header(name) or b"" for name in _TELLING]
    target = [*_target(request, route), request.query]
    value = _digest([b"coalescing", *_principal(request, owner), *target, *telling])
    return Key(value, value, is_shared=True)


def _principal(request: Request, owner: str | None) -> list[bytes | str]:
    if owner is not None:
        return ["owner", owner]
    # Cookies change more often than who asks: only where nothing else tells.
    for name in _CREDENTIALS:
        if (value := request.header(name)) is not None:
            return [name, value]
    return ["nobody"]


def _target(request: Request, route: str) -> list[bytes | str]:
    return [request.method, request.root_path, route]


def _digest(parts: Iterable[bytes | str]) -> str:
    """Hash parts so that no two lists of them are alike."""
    hashed = sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        hashed.update(b"%d:" % len(data))
        hashed.update(data)
    return hashed.hexdigest()
