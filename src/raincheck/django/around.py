"""Which middleware is around raincheck's in a project, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from raincheck.inspection.middleware_order import COMPRESSION

MIDDLEWARE = "raincheck.django.middleware.RaincheckMiddleware"

TRANSACTIONS = {"reversion.middleware.RevisionMiddleware"}
POLICIES = {
    "csp.middleware.CSPMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
}
POLICY_SETTINGS = (
    *("CONTENT_SECURITY_POLICY", "CONTENT_SECURITY_POLICY_REPORT_ONLY"),
    *("SECURE_CSP", "SECURE_CSP_REPORT_ONLY"),
)
NONCES = {"csp.constants.NONCE", "<CSP_NONCE_SENTINEL>"}  # as they are written there
FOR_EACH_THREAD = {  # and what `PREPARE` does for them
    "crum.CurrentRequestUserMiddleware": "raincheck.django.prepare.crum",
    "auditlog.middleware.AuditlogMiddleware": "raincheck.django.prepare.auditlog",
}


def names(dotted: str) -> set[str]:
    """Return the dotted name of a middleware and of the classes that it derives from."""
    try:
        middleware = import_string(dotted)
    except (ImportError, RuntimeError, ImproperlyConfigured):  # Django itself says so
        return {dotted}
    bases = middleware.__mro__ if isinstance(middleware, type) else ()
    return {dotted, *(f"{base.__module__}.{base.__qualname__}" for base in bases)}


def chain() -> list[set[str]]:
    """Return the names of each middleware of the project, the outermost first."""
    return [names(dotted) for dotted in settings.MIDDLEWARE]


def around(all_names: Sequence[set[str]]) -> set[str]:
    """Return the names of those around raincheck's; none if that is not there."""
    places = [n for n, its in enumerate(all_names) if MIDDLEWARE in its]
    return set().union(*all_names[: places[0]]) if places else set()


def compresses(known: set[str]) -> bool:
    """Tell whether one compresses what it is given: a range of that is none of the whole."""
    return any(COMPRESSION.search(name.rpartition(".")[2]) for name in known)


def has_nonces() -> bool:
    """Tell whether a page's policy is for that page alone."""
    return any(_has_nonce(getattr(settings, name, None)) for name in POLICY_SETTINGS)


def _has_nonce(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nonce(it) for it in value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(_has_nonce(it) for it in value)
    return (value if isinstance(value, str) else repr(value)) in NONCES
