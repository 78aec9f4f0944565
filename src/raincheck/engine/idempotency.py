"""What makes several requests one operation: `Idempotency-Key`, and being identical. Pure.

draft-ietf-httpapi-idempotency-key-header says what the header field is. A key is its owner's, and
of one route of one host. Where no owner is known, whoever shows the same credentials is taken for
the same: to compare more would make a client's second try another client's request, and the work is
done twice. What is alike without a key is compared by all but what is known to do no harm: there
the error to avoid is to answer one client with what was meant for another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from raincheck.config.options import Settings
from raincheck.config.policy import SAFE, Policy
from raincheck.engine.start import Key
from raincheck.http.messages import Request

_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
KEY_LENGTH = 255  # characters
# Structured fields have a string (RFC 9651 §3.3.3); most clients send it without the quotes.
_KEY = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"|([\x21\x23-\x2b\x2d-\x7e]+)')
# What says who asks; an application may know other fields. No list of what does not could ever end.
_IDENTITY = frozenset({b"authorization", b"proxy-authorization"})
# What decides about no response: how a request has travelled, and what names it for people. No
# `uberctx-`, `x-envoy-` or `cf-` as a whole, nor `baggage`: applications read some of those.
_HARMLESS = frozenset(
    {
        *(b"connection", b"content-length", b"date", b"keep-alive", b"priority", b"te"),
        *(b"trailer", b"transfer-encoding", b"via"),
        # traces
        *(b"b3", b"elastic-apm-traceparent", b"newrelic", b"request-id", b"sentry-trace"),
        *(b"traceparent", b"tracestate", b"uber-trace-id", b"x-amzn-requestid"),
        *(b"x-amzn-trace-id", b"x-client-trace-id", b"x-cloud-trace-context"),
        *(b"x-correlation-id", b"x-request-id", b"x-span-id", b"x-trace-id"),
        # proxies
        *(b"cdn-loop", b"cf-connecting-ip", b"cf-ray", b"fastly-client-ip", b"true-client-ip"),
        *(b"x-amz-cf-id", b"x-azure-ref", b"x-client-ip", b"x-cluster-client-ip"),
        *(b"x-envoy-attempt-count", b"x-envoy-external-address", b"x-forwarded-for"),
        *(b"x-queue-start", b"x-real-ip", b"x-request-start", b"x-vercel-id"),
    }
)
_HARMLESS_PREFIXES = (b"x-b3-", b"x-datadog-", b"x-instana-", b"x-newrelic-", b"x-ot-")
# A page that shows such a field must not be another client's if there is more in it than that.
_PLAIN = re.compile(rb"[\w.,:;=/+@\[\] -]*")
# RFC 7239 §4, where it is an address, and no more than that.
_NODE = re.compile(rb'(?i)(?:^|(?<=[;, \t]))(?:for|by)="?[\w.:\[\]-]*"?(?![^;, \t])')
_FORWARDED_HOST = re.compile(rb'(?i)(?:^|[;, \t])host=("[^"]*"|[^";, \t]*)')
_WITH_PORT = re.compile(rb"(\[[^\]]*\]|[^:]*):[0-9]*")


Part = bytes | str


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
        identity: Names of the header fields that say who asks, beside the standard ones.
    """

    key: str | None
    identity: frozenset[bytes] = frozenset()


class SharingPolicy:
    """Tells which requests may be one with others.

    Attributes:
        plain: Methods whose requests never are.
        has_keys: Whether an `Idempotency-Key` means anything.
    """

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self.has_keys = settings.idempotency_keys
        names = settings.identity_headers or ()
        self._identity = frozenset(spelled(name.encode("ascii")) for name in names)
        self._coalesces = policy.coalesces
        safe = frozenset[str]() if settings.coalesce else SAFE
        self.plain = safe if self.has_keys else safe | _UNSAFE

    def sharing(self, method: str, path: str, key: bytes | None) -> Sharing | None:
        """Say how others may be one with a request; None: not at all.

        Args:
            path: Without the root path.
            key: Its `Idempotency-Key`.

        Raises:
            NotAKeyError: The key is none.
        """
        if key is not None and self.has_keys and may_have_key(method):
            return Sharing(parse_key(key), self._identity)
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
    return idempotency_key(sharing.key, request, route, owner, digest.digest(), sharing.identity)


def idempotency_key(
    name: str,
    request: Request,
    route: str,
    owner: str | None,
    body_digest: bytes,
    identity: frozenset[bytes] = frozenset(),
) -> Key:
    """Return what a request with an `Idempotency-Key` is known by.

    Args:
        name: The key as the client has sent it.
        route: The request's path, without the root path.
        body_digest: Of the request's body.
        identity: As `Sharing` has it.
    """
    who = _principal(request, owner, identity)
    value = _digest([b"idempotency", *who, *_target(request, route), name])
    content = [request.header(name) or b"" for name in (b"content-type", b"content-encoding")]
    is_stranger = owner is None and is_anonymous(request, identity)
    fingerprint = _digest([request.query, *content, body_digest])
    return Key(value, fingerprint, is_anonymous=is_stranger)


def coalescing_key(request: Request, route: str, owner: str | None, body_digest: bytes) -> Key:
    """Return what identical safe requests are known by.

    Args:
        route: The request's path, without the root path.
        body_digest: Of the request's body: a GET may have one, and its handler may read it.
    """
    who = ["nobody"] if owner is None else ["owner", owner]
    target = [*_target(request, route), request.scheme, request.query, body_digest]
    value = _digest([b"coalescing", *who, *target, *_telling(request)])
    return Key(value, value, is_shared=True)


def _fields(request: Request) -> list[tuple[bytes, bytes]]:
    """Return the header fields; those of one name in the order in which they came."""
    named = [(name.lower(), value) for name, value in request.headers]
    return sorted(named, key=lambda field: field[0])


def _principal(request: Request, owner: str | None, identity: frozenset[bytes]) -> list[Part]:
    """Name who asks: the owner, or else whoever shows the same credentials."""
    if owner is not None:
        return ["owner", owner]
    named = _IDENTITY | identity
    shown = [(spelled(name), value) for name, value in _fields(request)]
    credentials = [part for field in shown if field[0] in named for part in field]
    return ["identity", *credentials, "cookies", *_cookies(request)]


def spelled(name: bytes) -> bytes:
    """Spell a field's name so that it is the same in an environ, which knows no underscores."""
    return name.lower().replace(b"_", b"-")


def _cookies(request: Request) -> list[bytes]:
    """Return the cookies: in HTTP/2 they may come in several fields (RFC 9113 §8.2.3)."""
    fields = [value for name, value in request.headers if name.lower() == b"cookie"]
    return sorted(pair.strip() for field in fields for pair in field.split(b";"))


def is_anonymous(request: Request, identity: frozenset[bytes]) -> bool:
    """Tell whether nothing in a request says who asks.

    Args:
        identity: Names of the fields that do so beside the standard ones.
    """
    named = _IDENTITY | identity | {b"cookie"}
    return not any(spelled(name) in named for name, _ in request.headers)


def _telling(request: Request) -> list[bytes]:
    """Return all header fields but for what is known to decide about no response."""
    fields = [(n, v if n != b"forwarded" else _NODE.sub(b"", v)) for n, v in _fields(request)]
    return [part for field in fields if not _is_harmless(*field) for part in field]


def _is_harmless(name: bytes, value: bytes) -> bool:
    is_known = name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)
    return is_known and _PLAIN.fullmatch(value) is not None


def _target(request: Request, route: str) -> list[Part]:
    hosts = [_host_names(request.header(name)) for name in (b"host", b"x-forwarded-host")]
    hosts += [_host_names(_forwarded_host(request.header(b"forwarded") or b""))]
    # As it was sent, too: frameworks tell `%2F` from a slash.
    raw_path = request.raw_path.split(b"?")[0]
    return [request.method, *hosts, request.root_path, route, raw_path]


def _forwarded_host(field: bytes) -> bytes:
    return b",".join(host.strip(b'"') for host in _FORWARDED_HOST.findall(field))


def _host_names(field: bytes | None) -> bytes:
    """Leave out the ports: a client may know several ways to one application."""
    hosts = [host.strip() for host in (field or b"").lower().split(b",")]
    matches = [(host, _WITH_PORT.fullmatch(host)) for host in hosts]
    return b",".join(match[1] if match else host for host, match in matches)


def _digest(parts: Iterable[Part]) -> str:
    """Hash parts so that no two lists of them are alike."""
    hashed = sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        hashed.update(b"%d:" % len(data))
        hashed.update(data)
    return hashed.hexdigest()
