"""The applications that the WSGI benchmarks measure; a server builds them by name."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

VARIABLE = "WSGI_BENCHMARK_TARGET"
ITEM = "/item"
DOCUMENT = {"id": 1, "name": "item", "tags": ["a", "b"]}

# What is around the application: raincheck's options, or nothing at all.
VARIANTS: dict[str, dict[str, Any] | None] = {
    "bare": None,
    "inline (excluded)": {"exclude": ["/**"]},
    "inline (mode=marked)": {"mode": "marked"},
    "promotable": {},
}


def environment(app: str, variant: str, **options: Any) -> dict[str, str]:
    """Tell `create` in another process what to build."""
    return {VARIABLE: f"{app}|{variant}|{options.get('budget', 10)}"}


def create() -> WSGIApplication:
    """Build what the environment names; for `gunicorn 'module:create()'`."""
    app, variant, budget = os.environ[VARIABLE].split("|")
    return build(app, variant, budget=float(budget))


def build(app: str, variant: str, **options: Any) -> WSGIApplication:
    """Build an application and what is around it."""
    chosen = VARIANTS[variant]
    if chosen is None:
        return APPLICATIONS[app]()
    from raincheck.wsgi import RaincheckMiddleware

    return RaincheckMiddleware(APPLICATIONS[app](), store="memory:", **{**options, **chosen})


def raw() -> WSGIApplication:
    """Answer in a few lines: at once, after `/sleep/{seconds}`, or burning CPU beside others."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        name, _, argument = environ["PATH_INFO"][1:].partition("/")
        if name == "sleep":
            time.sleep(float(argument))
        elif name == "burn":
            threading.Thread(target=_burn, args=(float(argument),), daemon=True).start()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    return app


def _burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


def flask_json() -> WSGIApplication:
    """Answer with JSON from a Flask view."""
    from flask import Flask, Response, jsonify

    app = Flask("benchmark")

    @app.get(ITEM)
    def item() -> Response:
        return jsonify(DOCUMENT)

    return app


def django_json() -> WSGIApplication:
    """Answer with JSON from a Django view."""
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpRequest, JsonResponse
    from django.urls import path

    def item(request: HttpRequest) -> JsonResponse:
        return JsonResponse(DOCUMENT)

    if not settings.configured:
        urls = type("urls", (), {"urlpatterns": [path(ITEM[1:], item)]})
        settings.configure(SECRET_KEY="none", ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"])  # noqa: S106
    application: WSGIApplication = get_wsgi_application()
    return application


APPLICATIONS = {"raw": raw, "Flask": flask_json, "Django": django_json}
