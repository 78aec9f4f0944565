"""What the options say of a request, as an environ describes it; Django's `META` does so, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raincheck.keys import Sharer, Sharing
from raincheck.policy import NEVER_DEFERRED, Decision, Policy
from raincheck.wsgi.request_body import content_length
from raincheck.wsgi.translation import to_bytes


def decide(policy: Policy, environ: Mapping[str, Any], path: str) -> Decision:
    """Say whether and when a request may be deferred; None: not at all.

    Args:
        path: The request's, decoded, without the root path.
    """
    method = environ["REQUEST_METHOD"]
    prefer = environ.get("HTTP_PREFER")
    if prefer is None:
        return None if method in NEVER_DEFERRED else policy.unasked[path]
    return policy.decide(method, path, to_bytes(prefer), content_length(environ))


def sharing_of(sharer: Sharer, environ: Mapping[str, Any], path: str) -> Sharing | None:
    """Say how other requests may be one with this one; None: not at all.

    Args:
        path: The request's, decoded, without the root path.

    Raises:
        NotAKeyError: Its `Idempotency-Key` is none.
    """
    value = environ.get("HTTP_IDEMPOTENCY_KEY")
    key = to_bytes(value) if value is not None else None
    return sharer.sharing(environ["REQUEST_METHOD"], path, key)
