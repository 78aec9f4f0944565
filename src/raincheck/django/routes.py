"""Where a project routes polls itself: the include of `raincheck.django.urls`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.urls import NoReverseMatch, get_urlconf, reverse
from django.utils.translation import get_language

from raincheck.monitor.links import PLACEHOLDER

if TYPE_CHECKING:
    from django.http import HttpRequest

ROUTE = "raincheck:operation"


def included_url(request: HttpRequest | None, operation_id: str) -> str:
    """Return the path of R below the include.

    Raises:
        NoReverseMatch: There is none.
    """
    url: str = reverse(ROUTE, kwargs={"operation_id": operation_id})
    return url


def seen_by_reverse(request: HttpRequest) -> tuple[str | None, str | None]:
    """Return what a URL depends on that Django finds, beside the root path."""
    return get_language(), get_urlconf()


def is_included() -> bool:
    """Tell whether there is one."""
    try:
        included_url(None, PLACEHOLDER)
    except NoReverseMatch:
        return False
    return True
