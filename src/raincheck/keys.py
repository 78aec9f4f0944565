"""What makes several requests one operation: `Idempotency-Key`, and being identical. Pure.

draft-ietf-httpapi-idempotency-key-header says what the header field is. A key is its owner's, and
of one route of one host. Where no owner is known, only who sends the same header fields is taken
for the same, but for those that say nothing of him.
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
# What says nothing of who asks, or is another one each time that the same client asks. The host is
# part of the target. No `x-amzn-` or `cf-` as a whole: their proxies name users, too.
_HARMLESS = frozenset(
    {
        *(b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"connection"),
        *(b"cache-control", b"content-encoding", b"content-length", b"content-type", b"date"),
        *(b"expect", b"forwarded", b"host", b"idempotency-key", b"keep-alive", b"pragma"),
        *(b"prefer", b"priority", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"user-agent", b"via"),
        # traces
        *(b"b3", b"baggage", b"elastic-apm-traceparent", b"newrelic", b"sentry-trace"),
        *(b"traceparent", b"tracestate", b"uber-trace-id", b"x-amzn-requestid"),
        *(b"x-amzn-trace-id", b"x-client-trace-id", b"x-cloud-trace-context"),
        *(b"request-id", b"x-correlation-id", b"x-request-id", b"x-span-id", b"x-trace-id"),
        # proxies
        *(b"cdn-loop", b"cf-connecting-ip", b"cf-ipcountry", b"cf-ray", b"cf-visitor"),
        *(b"fastly-client-ip", b"true-client-ip", b"x-amz-cf-id", b"x-azure-ref"),
        *(b"x-client-ip", b"x-cluster-client-ip", b"x-forwarded-for", b"x-forwarded-host"),
        *(b"x-forwarded-port", b"x-forwarded-proto", b"x-forwarded-server", b"x-queue-start"),
        *(b"x-real-ip", b"x-request-start", b"x-vercel-id"),
    }
)
_HARMLESS_PREFIXES = (
    *(b"uberctx-", b"x-b3-", b"x-datadog-", b"x-envoy-", b"x-instana-", b"x-newrelic-", b"x-ot-"),
)
# What may decide about the response to a safe request, beside its target.
_TELLING = (
    *(b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"content-encoding"),
    *(b"content-type", b"host", b"if-match", b"if-modified-since", b"if-none-match", b"if-range"),
    *(b"if-unmodified-since", b"origin", b"prefer", b"range", b"user-agent", b"x-forwarded-host"),
    *(b"x-forwarded-port", b"x-forwarded-prefix", b"x-forwarded-proto", b"x-requested-with"),
)
_WITH_PORT = re.compile(rb"(\[[^\]]*\]|[^:]*):[0-9]*")


class NotAKeyError(ValueError):
    """The `Idempotency-Key` is empty, too long, or holds what it may not."""


def parse_key(value: bytes) -> str:
    """Read an `Idempotency-Key`.

    Raises:
        NotAKeyError: It is none.
    """
    match = _KEY.fullmatch(value.strip())
    if match is None or len(match[1] or match[2]) > KEY_LENGTH:
        raise NotAKeyError(
            "an Idempotency-Key is 1 to 255 visible ASCII characters, or spaces; with a space or "
            "comma it must be in double quotes"
        )
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
    digest = sha256()
    for piece in body:
        digest.update(piece)
    if sharing.key is None:
        return coalescing_key(request, route, owner, digest.digest())
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
    content = [request.header(name) or b"" for name in (b"content-type", b"content-encoding")]
    return Key(value, _digest([request.query, *content, body_digest]))


def coalescing_key(request: Request, route: str, owner: str | None, body_digest: bytes) -> Key:
    """Return what identical safe requests are known by.

    Args:
        route: The request's path, without the root path.
        body_digest: Of the request's body: a GET may have one, and its handler may read it.
    """
    telling = [request.header(name) or b"" for name in _TELLING]
    target = [*_target(request, route), request.scheme, request.query, body_digest]
    value = _digest([b"coalescing", *_principal(request, owner), *target, *telling])
    return Key(value, value, is_shared=True)


def _principal(request: Request, owner: str | None) -> list[bytes | str]:
    if owner is not None:
        return ["owner", owner]
    # Nobody knows by which field this application tells who asks.
    told = sorted((name.lower(), value) for name, value in request.headers)
    return ["sender", *(part for pair in told if not _is_harmless(pair[0]) for part in pair)]


def _is_harmless(name: bytes) -> bool:
    return name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)


def _target(request: Request, route: str) -> list[bytes | str]:
    hosts = [_host_names(request.header(name)) for name in (b"host", b"x-forwarded-host")]
    # As it was sent, too: frameworks tell `%2F` from a slash.
    raw_path = request.raw_path.split(b"?")[0]
    return [request.method, *hosts, request.root_path, route, raw_path]


def _host_names(field: bytes | None) -> bytes:
    """Leave out the ports: a client may know several ways to one application."""
    hosts = [host.strip() for host in (field or b"").lower().split(b",")]
    matches = [(host, _WITH_PORT.fullmatch(host)) for host in hosts]
    return b",".join(match[1] if match else host for host, match in matches)


def _digest(parts: Iterable[bytes | str]) -> str:
    """Hash parts so that no two lists of them are alike."""
    hashed = sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        hashed.update(b"%d:" % len(data))
        hashed.update(data)
    return hashed.hexdigest()
