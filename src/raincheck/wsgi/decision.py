"""What the options say of a request, as an environ describes it; Django's `META` does so, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raincheck.keys import may_have_key, parse_key
from raincheck.options import Settings
from raincheck.policy import NEVER_DEFERRED, Decision, Policy
from raincheck.wsgi.request_body import content_length


def decide(policy: Policy, environ: Mapping[str, Any], path: str) -> Decision:
    """Say whether and when a request may be deferred; None: not at all.

    Args:
        path: The request's, decoded, without the root path.
    """
    method = environ["REQUEST_METHOD"]
    prefer = environ.get("HTTP_PREFER")
    if prefer is None:
        return None if method in NEVER_DEFERRED else policy.unasked[path]
    return policy.decide(method, path, prefer.encode("latin-1"), content_length(environ))


@dataclass(frozen=True, slots=True)
class Sharing:
    """How other requests may be one with a request.

    Attributes:
        key: Its `Idempotency-Key`; None: whichever are identical.
    """

    key: str | None


SharingOf = Callable[[Mapping[str, Any], str], Sharing | None]


def sharing_by(settings: Settings, policy: Policy) -> SharingOf:
    """Return what tells from environ and path how others may be one with a request.

    That raises `NotAKeyError`.
    """
    has_keys, coalesces = settings.idempotency_keys, bool(settings.coalesce)

    def find(environ: Mapping[str, Any], path: str) -> Sharing | None:
        value = environ.get("HTTP_IDEMPOTENCY_KEY") if has_keys else None
        if value is not None and may_have_key(environ["REQUEST_METHOD"]):
            return Sharing(parse_key(value.encode("latin-1")))
        is_shared = coalesces and policy.coalesces(environ["REQUEST_METHOD"], path)
        return Sharing(None) if is_shared else None

    return find
