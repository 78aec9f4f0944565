"""What the options say of a request, as an environ describes it; Django's `META` does so, too."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from raincheck.config.left_alone import DESTINATION, FIELDS, IN_ACCEPT, IN_QUERY, NOWHERE
from raincheck.config.policy import NEVER_DEFERRED, SAFE, Candidate, Decision, Policy
from raincheck.engine.idempotency import Sharing, SharingPolicy
from raincheck.wsgi.request_body import content_length
from raincheck.wsgi.translation import to_bytes

# Servers that lend their connection to an application, beside those that put the socket itself
# into the environ, as gunicorn and werkzeug do.
_LENDERS = ("eventlet.input", "uwsgi.version")


def decide(policy: Policy, environ: Mapping[str, Any], path: str) -> Decision:
    """Say whether and when a request may be deferred; None: not at all.

    Args:
        path: The request's, decoded, without the root path.
    """
    method, prefer = environ["REQUEST_METHOD"], environ.get("HTTP_PREFER")
    decision: Decision
    if prefer is None:
        decision = None if method in NEVER_DEFERRED else policy.unasked[path]
    else:
        prefer = to_bytes(prefer)
        decision = policy.decide(method, path, prefer, content_length(environ))
    if decision is None or not (_is_left_alone(policy, environ) or is_switched(environ)):
        return decision
    # Where only marks decide, what is not deferred is left alone.
    is_candidate = isinstance(decision, Candidate) and decision.budget is not None
    has_key = "HTTP_IDEMPOTENCY_KEY" in environ and method not in SAFE
    return policy.decide_in_person(prefer, has_key=is_candidate and has_key)


@cache
def _key(name: bytes) -> str:
    """Return under which name an environ has a header field."""
    return f"HTTP_{name.decode().replace('-', '_').upper()}"


_FIELDS = tuple(map(_key, FIELDS))
_DESTINATION, _NOWHERE = _key(DESTINATION), NOWHERE.decode()
_IN_ACCEPT, _IN_QUERY = IN_ACCEPT.decode(), IN_QUERY.decode()


def _is_left_alone(policy: Policy, environ: Mapping[str, Any]) -> bool:
    # Every request comes here: what costs more is for those that may be.
    may_be = _IN_ACCEPT in environ.get("HTTP_ACCEPT", "").lower()
    may_be = may_be or _IN_QUERY in environ.get("QUERY_STRING", "")
    may_be = may_be or environ.get(_DESTINATION) == _NOWHERE
    if not may_be and not _has_field(environ):
        return False

    def field(name: bytes) -> bytes | None:
        value = environ.get(_key(name))
        return to_bytes(value) if value is not None else None

    return policy.leaves_alone(field, to_bytes(environ.get("QUERY_STRING", "")))


def _has_field(environ: Mapping[str, Any]) -> bool:
    for name in _FIELDS:  # noqa: SIM110 - a generator costs as much as all the rest
        if name in environ:
            return True
    return False


def is_switched(environ: Mapping[str, Any]) -> bool:
    """Tell whether a request takes the connection from its server: as a WebSocket, if it can.

    A field alone can't: clients send `Upgrade: h2c` unasked, and no WSGI server heeds it.
    """
    if environ.get("wsgi.websocket") is not None:  # gevent-websocket has done so already
        return True
    if "HTTP_UPGRADE" not in environ or environ["REQUEST_METHOD"] != "GET":
        return False
    is_asked = "websocket" in _tokens(environ["HTTP_UPGRADE"])  # RFC 6455 §4.1
    is_asked = is_asked and "upgrade" in _tokens(environ.get("HTTP_CONNECTION", ""))
    return is_asked and _lends_its_connection(environ)


def _tokens(field: str) -> set[str]:
    return {token.strip().lower() for token in field.split(",")}


def _lends_its_connection(environ: Mapping[str, Any]) -> bool:
    if environ.get("SERVER_SOFTWARE", "").startswith("gevent"):  # its input leads to the socket
        return True
    if any(name in environ for name in _LENDERS):
        return True
    # Of the type: some put proxies into the environ that can't be asked now.
    return any(hasattr(type(value), "sendall") for value in environ.values())


def sharing_of(
    sharing_policy: SharingPolicy, environ: Mapping[str, Any], path: str
) -> Sharing | None:
    """Say how other requests may be one with this one; None: not at all.

    Args:
        path: The request's, decoded, without the root path.

    Raises:
        NotAKeyError: Its `Idempotency-Key` is none.
    """
    value = environ.get("HTTP_IDEMPOTENCY_KEY")
    key = to_bytes(value) if value is not None else None
    return sharing_policy.sharing(environ["REQUEST_METHOD"], path, key)
