"""The handlers of a Django project: views, those of REST framework and django-ninja too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from raincheck.config.options import Settings
from raincheck.config.policy import Policy
from raincheck.inspection.directory import Endpoint, Environ, method_of, path_of

_DECIDING = ("mode", "budget", "budgets", "include", "exclude")  # of the options


class DjangoDirectory:
    """Looks into the URL configuration that the settings name.

    A configuration that a middleware of the project chooses for a request is not seen.
    """

    def find(self, environ: Environ) -> object | None:
        """Return the view of a request."""
        from django.conf import settings
        from django.core.handlers.wsgi import get_path_info
        from django.urls import resolve

        path = get_path_info(environ)
        if not settings.USE_I18N:
            return _view(resolve(path, settings.ROOT_URLCONF))
        from django.utils import translation

        # Patterns may be translated; the thread may still speak the last request's language.
        language = translation.get_language_from_path(path) or settings.LANGUAGE_CODE
        with translation.override(language):
            return _view(resolve(path, settings.ROOT_URLCONF))

    def key(self, environ: Environ) -> str:
        """Return method and path, and which URL configuration is in force."""
        from django.conf import settings

        return f"{method_of(environ)} {path_of(environ)} {settings.ROOT_URLCONF}"

    def all(self) -> Iterator[Endpoint]:
        """Yield the patterns, those of included configurations too."""
        from django.conf import settings
        from django.urls import get_resolver

        return _patterns(get_resolver(settings.ROOT_URLCONF).url_patterns, "/")

    def middlewares(self) -> Iterable[object]:
        """Return the dotted names in the settings."""
        from django.conf import settings

        return tuple(settings.MIDDLEWARE)


def django_policy() -> Policy:
    """Return what the setting `RAINCHECK` says of which requests may be deferred.

    Raises:
        ConfigurationError: It says nothing that can be understood.
    """
    from django.conf import settings

    options: dict[str, Any] = dict(getattr(settings, "RAINCHECK", {}))
    return Settings.build(
        {name: options[name.upper()] for name in _DECIDING if name.upper() in options}
    ).policy()


def _view(match: Any) -> object:
    view: object = match.func
    return view


def _patterns(patterns: Iterable[Any], prefix: str) -> Iterator[Endpoint]:
    for pattern in patterns:
        path = f"{prefix}{pattern.pattern}"
        if hasattr(pattern, "url_patterns"):
            yield from _patterns(pattern.url_patterns, path)
        else:
            yield Endpoint(path, pattern.callback)
