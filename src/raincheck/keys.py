"""What makes several requests one operation: `Idempotency-Key`, and being identical. Pure.

draft-ietf-httpapi-idempotency-key-header says what the header field is. A key is its owner's, and
of one route. Where no owner is known, only who sends the same header fields is taken for the same,
but for those that say nothing of him.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from raincheck.messages import Request
from raincheck.options import Settings
from raincheck.policy import SAFE, Policy
from raincheck.starting import Key

_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
KEY_LENGTH = 255  # characters
# Structured fields have a string (RFC 9651 §3.3.3); most clients send it without the quotes.
_KEY = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"|([\x21\x23-\x2b\x2d-\x7e]+)')
# What says nothing of who asks, or is another one each time that the same client asks.
_HARMLESS = frozenset(
    {
        *(b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"connection"),
        *(b"cache-control", b"content-length", b"content-type", b"date", b"expect", b"forwarded"),
        *(b"idempotency-key", b"keep-alive", b"pragma", b"prefer", b"priority", b"te", b"trailer"),
        *(b"traceparent", b"tracestate", b"transfer-encoding", b"upgrade", b"user-agent", b"via"),
        *(b"x-amzn-trace-id", b"x-correlation-id", b"x-forwarded-for", b"x-forwarded-host"),
        *(b"x-forwarded-port", b"x-forwarded-proto", b"x-real-ip", b"x-request-id"),
    }
)
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


@dataclass(frozen=True, slots=True)
class Sharing:
    """How other requests may be one with a request.

    Attributes:
        key: Its `Idempotency-Key`; None: whichever are identical.
    """

    key: str | None


class Sharer:
    """Tells which requests may be one with others.

    Attributes:
        plain: Methods whose requests never are.
    """

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self._has_keys = settings.idempotency_keys
        self._coalesces = policy.coalesces
        safe = frozenset[str]() if settings.coalesce else SAFE
        self.plain = safe if self._has_keys else safe | _UNSAFE

    def sharing(self, method: str, path: str, key: bytes | None) -> Sharing | None:
        """Say how others may be one with a request; None: not at all.

        Args:
            path: Without the root path.
            key: Its `Idempotency-Key`.

        Raises:
            NotAKeyError: The key is none.
        """
        if key is not None and self._has_keys and may_have_key(method):
            return Sharing(parse_key(key))
        return Sharing(None) if self._coalesces(method, path) else None


def key_of(
    sharing: Sharing, request: Request, route: str, owner: str | None, body: Iterable[bytes]
) -> Key:
    """Return what makes a request one with others: its `Idempotency-Key`, or being identical.

    Args:
        sharing: How others may be one with it.
        route: The request's path, without the root path.
        body: All of it, in pieces of any size.
    """
    if sharing.key is None:
        return coalescing_key(request, route, owner)
    digest = sha256()
    for piece in body:
        digest.update(piece)
    return idempotency_key(sharing.key, request, route, owner, digest.digest())


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
    # Nobody knows by which field this application tells who asks.
    told = sorted((name.lower(), value) for name, value in request.headers)
    return ["sender", *(part for pair in told if pair[0] not in _HARMLESS for part in pair)]


def _target(request: Request, route: str) -> list[bytes | str]:
    # As it was sent, too: frameworks tell `%2F` from a slash.
    return [request.method, request.root_path, route, request.raw_path.split(b"?")[0]]


def _digest(parts: Iterable[bytes | str]) -> str:
    """Hash parts so that no two lists of them are alike."""
    hashed = sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        hashed.update(b"%d:" % len(data))
        hashed.update(data)
    return hashed.hexdigest()
