"""The `RAINCHECK` setting: raincheck's options in capitals, with Django's defaults for some."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from raincheck.config.options import Settings
from raincheck.errors import ConfigurationError
from raincheck.stores.default import store_from

_AUTHENTICATION = (
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.RemoteUserMiddleware",
)
_CALLABLES = ("owner", "status_url")  # may be named by their dotted path
_PREPARE = "PREPARE"  # of Django's alone


# On a request: the user that middleware knows. Views may put another in its place, such as the
# bearer of a token, whom a poll would not be known to come from.
USER = "_raincheck_user"


class _Nobody:
    is_authenticated = False


def known_user(request: Any) -> Any:
    """Return the user that middleware around raincheck knows; None: one within may know him."""
    user = getattr(request, "user", None)
    return user if user is not None or authenticates_within(tuple(settings.MIDDLEWARE)) else _Nobody


@lru_cache(maxsize=16)
def authenticates_within(chain: tuple[str, ...]) -> bool:
    """Tell whether Django's authentication comes after raincheck in a middleware chain."""
    kinds = [import_string(dotted) for dotted in chain]
    ours = [n for n, kind in enumerate(kinds) if getattr(kind, "is_raincheck", False)]
    within = kinds[ours[0] + 1 :] if ours else []
    # By their names: to import them where they are not installed is an error.
    names = {f"{base.__module__}.{base.__name__}" for kind in within for base in _bases(kind)}
    return any(name in names for name in _AUTHENTICATION)


def _bases(kind: Any) -> tuple[type, ...]:
    return kind.__mro__ if isinstance(kind, type) else ()


def user_of(request: Any) -> str | None:
    """Name the authenticated user of a request: what the setting OWNER is by default."""
    user = getattr(request, USER, None) or getattr(request, "user", None)
    return str(user.pk) if user is not None and user.is_authenticated else None


def settings_module() -> object:
    """Return the module of the project's settings, if there is one: what tells projects apart."""
    return sys.modules.get(getattr(settings, "SETTINGS_MODULE", None) or "")


def is_known(options: Settings, request: Any) -> bool:
    """Tell whether it is known by now whose a request is, or that it is nobody's."""
    return options.owner is user_of and getattr(request, USER, None) is not None


def read_settings() -> Settings:
    """Return the options that the project has set.

    Raises:
        ImproperlyConfigured: One is unknown, has a wrong value, or contradicts another.
    """
    setting: Any = getattr(settings, "RAINCHECK", {})
    if not isinstance(setting, Mapping):
        raise ImproperlyConfigured(f"RAINCHECK must be a dict of options, not {setting!r}")
    options: dict[str, Any] = {"owner": user_of}
    preparations()
    for name, value in setting.items():
        if name == _PREPARE:
            continue
        if not isinstance(name, str) or name != name.upper():
            raise ImproperlyConfigured(f"RAINCHECK: options are in capitals, unlike {name!r}")
        options[name.lower()] = _value(name.lower(), value)
    try:
        chosen = Settings.build(options)
        store_from(chosen)  # which opens nothing
        return chosen
    except ConfigurationError as error:
        raise ImproperlyConfigured(f"RAINCHECK: {error}") from error


def preparations() -> tuple[Callable[[Any], Any], ...]:
    """Return what the option `PREPARE` names: a dotted name or a callable, or several.

    Each is called with the request in the thread of its handler, before the view; what it returns,
    if that can be called, is called there after the view.

    Raises:
        ImproperlyConfigured: One can't be imported or called, or is async.
    """
    named: Any = getattr(settings, "RAINCHECK", {}).get(_PREPARE, ())
    several = named if isinstance(named, (list, tuple)) else (named,)
    found = tuple(_imported(_PREPARE, it) if isinstance(it, str) else it for it in several)
    for it in found:
        if not callable(it) or inspect.iscoroutinefunction(it):
            raise ImproperlyConfigured(
                f"RAINCHECK: {_PREPARE} must be callable and not async, or a dotted name: {it!r}"
            )
    return found


def _imported(name: str, dotted: str) -> Any:
    try:
        return import_string(dotted)
    except ImportError as error:
        raise ImproperlyConfigured(f"RAINCHECK: {name}: {error}") from error


def _value(name: str, value: Any) -> Any:
    if name in _CALLABLES and isinstance(value, str):
        return _imported(name.upper(), value)
    if name == "workers" and isinstance(value, Mapping):
        return {
            key: _imported("WORKERS", tell) if isinstance(tell, str) else tell
            for key, tell in value.items()
        }
    if name == "limits" and isinstance(value, Mapping):
        return {str(key).lower(): limit for key, limit in value.items()}
    return value
