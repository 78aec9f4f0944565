"""The application in Django: wrapped by raincheck as WSGI or ASGI, or with it as a middleware."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.test import override_settings

from raincheck.asgi import RaincheckMiddleware as AsgiMiddleware
from raincheck.django import with_drain
from raincheck.wsgi import RaincheckMiddleware as WsgiMiddleware
from tests.gateways.applications.variants import asgi_variants, wsgi_variants

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from starlette.types import ASGIApp

    from raincheck.config.options import Options

django.setup(set_prefix=False)  # what is overridden must be there

AROUND = "django.middleware.security.SecurityMiddleware"
RAINCHECK = "raincheck.django.RaincheckMiddleware"
WITHIN = "django.middleware.csrf.CsrfViewMiddleware"


def _wrapped_wsgi(options: Options) -> WSGIApplication:
    with override_settings(MIDDLEWARE=[AROUND, WITHIN]):
        return WsgiMiddleware(get_wsgi_application(), **options)


def _wrapped_asgi(options: Options) -> ASGIApp:
    with override_settings(MIDDLEWARE=[AROUND, WITHIN]):
        return AsgiMiddleware(get_asgi_application(), **options)


def _middleware(options: Options) -> override_settings:
    # For good: what is run again comes in at a chain that is made when it does.
    settings.MIDDLEWARE = [AROUND, RAINCHECK, WITHIN]
    setting = {name.upper(): value for name, value in options.items()}
    return override_settings(RAINCHECK=setting)


def _wsgi_with_middleware(options: Options) -> WSGIApplication:
    with _middleware(options):
        return cast("WSGIApplication", get_wsgi_application())


def _asgi_with_middleware(options: Options) -> ASGIApp:
    with _middleware(options):
        return with_drain(get_asgi_application())


def wrapped_wsgi() -> WSGIApplication:
    """Return what a WSGI server is to serve: raincheck around the project."""
    return wsgi_variants(_wrapped_wsgi)


def wrapped_asgi() -> ASGIApp:
    """Return what an ASGI server is to serve: raincheck around the project."""
    return asgi_variants(_wrapped_asgi)


def wsgi_with_middleware() -> WSGIApplication:
    """Return what a WSGI server is to serve: raincheck within the project."""
    return wsgi_variants(_wsgi_with_middleware)


def asgi_with_middleware() -> ASGIApp:
    """Return what an ASGI server is to serve: raincheck within the project."""
    return asgi_variants(_asgi_with_middleware)
