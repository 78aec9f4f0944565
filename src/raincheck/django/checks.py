"""What `manage.py check` says about raincheck, if `INSTALLED_APPS` names `raincheck.django`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured

from raincheck.django import around
from raincheck.django.around import MIDDLEWARE
from raincheck.django.conf import preparations, read_settings
from raincheck.inspection.check import (
    HIDDEN,
    NAME_IT,
    NAME_STORE,
    UNNAMED,
    complaints,
    is_hidden,
    is_unnamed,
    main_thread_complaints,
)
from raincheck.inspection.complaint import Complaint
from raincheck.inspection.django import DjangoDirectory
from raincheck.stores.memory import MemoryStore

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
    "django_tenants.middleware.main.TenantMainMiddleware": "what is asked for a poll, such as its "
    "user, is looked up without a tenant",
}
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
MARKS = {
    "no-effect": "W005",
    "before-authentication": "W006",
    "main-thread": "W008",
    "no-store": "W012",
}


@register(Tags.security)  # type: ignore[untyped-decorator]
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check the setting `RAINCHECK` and the place in `MIDDLEWARE`."""
    try:
        options = read_settings()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="raincheck.E001")]
    chain = around.chain()
    found = [*_placing(chain), *_surrounding(around.around(chain)), *_sessions(chain)]
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
        for it in (*complaints(DjangoDirectory()), *_in_main_thread(), *_hidden())
        if it.code in MARKS
    ]


def _hidden() -> list[Complaint]:
    """Say that workers may look elsewhere; all views are imported by now, and known to be left."""
    try:
        options = read_settings()
    except ImproperlyConfigured:  # `check_settings` says so
        return []
    if not is_hidden(options.store, options.runners, options.workers):
        return []
    return [Complaint("no-store", "RAINCHECK", HIDDEN, NAME_STORE)]


def _in_main_thread() -> list[Complaint]:
    try:
        policy = read_settings().policy()
    except ImproperlyConfigured:  # `check_settings` says so
        return []
    return main_thread_complaints(DjangoDirectory(), policy)


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


def _surrounding(known: set[str]) -> Iterator[CheckMessage]:
    """Say of what is around raincheck what works only within, or in the thread of the handler."""
    for name in around.TRANSACTIONS & known:
        yield Warning(
            f"{name} is around raincheck's middleware and begins a transaction: whoever begins it "
            "ends it with the response, so requests that it is for are never deferred.",
            hint=f'Move "{PUBLISHED}" above it in MIDDLEWARE.',
            id="raincheck.W009",
        )
    for name in around.POLICIES & known if around.has_nonces() else ():
        yield Warning(
            f"{name} is around raincheck's middleware and makes a nonce for each request: a page "
            "that was deferred has the one of its own request, the header field of a poll another.",
            hint=f'Move "{PUBLISHED}" above it in MIDDLEWARE.',
            id="raincheck.W010",
        )
    for name in around.FOR_EACH_THREAD.keys() & known if not preparations() else ():
        yield Warning(
            f"{name} is around raincheck's middleware: what it keeps for the server's thread, or "
            "until the 202 has left, is not there for the view.",
            hint=f'RAINCHECK = {{"PREPARE": "{around.FOR_EACH_THREAD[name]}"}}, or move '
            f'"{PUBLISHED}" above it in MIDDLEWARE.',
            id="raincheck.W011",
        )


def _sessions(chain: Sequence[set[str]]) -> Iterator[CheckMessage]:
    in_cookies = settings.SESSION_ENGINE == "django.contrib.sessions.backends.signed_cookies"
    if in_cookies and any(SESSIONS in its for its in chain):
        yield Info(
            "Sessions are kept in cookies: what a view changes in one after its 202 has left is "
            "lost, although it calls `request.session.save()`.",
            hint="Take another SESSION_ENGINE, or EXCLUDE views that change the session.",
            id="raincheck.I001",
        )
