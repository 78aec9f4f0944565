"""What `manage.py check` says about raincheck, if `INSTALLED_APPS` names `raincheck.django`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from raincheck.django.conf import read_settings
from raincheck.inspection.check import (
    NAME_IT,
    UNNAMED,
    complaints,
    is_unnamed,
    main_thread_complaints,
)
from raincheck.inspection.complaint import Complaint
from raincheck.inspection.django import DjangoDirectory
from raincheck.stores.memory import MemoryStore

MIDDLEWARE = "raincheck.django.middleware.RaincheckMiddleware"
PUBLISHED = "raincheck.django.RaincheckMiddleware"

# What has to be around raincheck, and what goes wrong otherwise.
OUTSIDE = {
    "corsheaders.middleware.CorsMiddleware": "a browser can't read a 202 or a poll without "
    "the header fields it adds",
    "django.contrib.sessions.middleware.SessionMiddleware": "a session that a handler changes "
    "is saved with the response that it sees, not with the 202",
    "django.contrib.auth.middleware.AuthenticationMiddleware": "nobody is known yet to whom an "
    "operation could belong, so whoever knows its URL may read it",
    "django.middleware.security.SecurityMiddleware": "202 and polls lack the header fields it adds",
}
MARKS = {"no-effect": "W005", "before-authentication": "W006", "main-thread": "W008"}


@register(Tags.security)  # type: ignore[untyped-decorator]
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check the setting `RAINCHECK` and the place in `MIDDLEWARE`."""
    try:
        options = read_settings()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="raincheck.E001")]
    found = list(_placing([_names(dotted) for dotted in settings.MIDDLEWARE]))
    in_memory = isinstance(options.store, MemoryStore) or options.store == "memory:"
    if in_memory and not settings.DEBUG:
        found.append(
            Warning(
                "RAINCHECK keeps operations in the memory of one process: with several workers, "
                "polls that reach another one are answered 404.",
                hint='Leave STORE out, or set it to "sqlite:///path".',
                id="raincheck.W004",
            )
        )
    if is_unnamed(options.store, options.application):
        text = f"RAINCHECK has no APPLICATION: {UNNAMED}."
        found.append(Warning(text, hint=f"{NAME_IT}.", id="raincheck.W007"))
    return found


@register(Tags.urls)  # type: ignore[untyped-decorator]
def check_marks(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check that each `@long_running` has an effect, and no stranger is answered 202."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    return [
        Warning(f"{it.where}: {it.what}.", hint=f"{it.advice}.", id=f"raincheck.{MARKS[it.code]}")
        for it in (*complaints(DjangoDirectory()), *_in_main_thread())
        if it.code in MARKS
    ]


def _in_main_thread() -> list[Complaint]:
    try:
        policy = read_settings().policy()
    except ImproperlyConfigured:  # `check_settings` says so
        return []
    return main_thread_complaints(DjangoDirectory(), policy)


def _names(dotted: str) -> set[str]:
    """Return the dotted name of a middleware and of the classes that it derives from."""
    try:
        middleware = import_string(dotted)
    except ImportError:  # Django itself says so
        return {dotted}
    bases = middleware.__mro__ if isinstance(middleware, type) else ()
    return {dotted, *(f"{base.__module__}.{base.__qualname__}" for base in bases)}


def _placing(chain: Sequence[set[str]]) -> Iterator[CheckMessage]:
    places = [n for n, names in enumerate(chain) if MIDDLEWARE in names]
    if not places:
        yield Warning(
            "raincheck.django is installed, but its middleware is not: nothing is deferred.",
            hint=f'Add "{PUBLISHED}" to MIDDLEWARE, after authentication.',
            id="raincheck.W001",
        )
        return
    if len(places) > 1:
        yield Warning(
            "The middleware of raincheck is in MIDDLEWARE more than once.",
            hint="Only the first one defers requests: leave the others out.",
            id="raincheck.W002",
        )
    for names in chain[places[0] + 1 :]:
        for name in OUTSIDE.keys() & names:
            yield Warning(
                f"raincheck's middleware comes before {name}: {OUTSIDE[name]}.",
                hint=f'Move "{PUBLISHED}" below it in MIDDLEWARE.',
                id="raincheck.W003",
            )
