"""A program with Sentry in its process: it prints what Sentry was told of each marked handler.

As Sentry changes the classes of frameworks for good, no test has it in its own process.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.bottle import BottleIntegration
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.falcon import FalconIntegration
from sentry_sdk.integrations.fastapi import FastApiIntegration
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.integrations.litestar import LitestarIntegration
from sentry_sdk.integrations.pyramid import PyramidIntegration
from sentry_sdk.integrations.quart import QuartIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration
from sentry_sdk.integrations.stdlib import StdlibIntegration
from sentry_sdk.transport import Transport

events: list[Any] = []
transactions: list[Any] = []


class InMemory(Transport):
    """Keeps what would be sent."""

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            found = item.payload.json or {}
            if item.type == "event":
                values = found.get("exception", {}).get("values") or [{}]
                events.append(values[-1].get("value") or found.get("logentry"))
            if item.type == "transaction":
                transactions.append(found["contexts"]["trace"].get("status"))


sentry_sdk.init(
    dsn="http://key@localhost/1",
    transport=InMemory,
    traces_sample_rate=1.0,
    integrations=[
        *(BottleIntegration(), DjangoIntegration(), FalconIntegration(), FastApiIntegration()),
        *(FlaskIntegration(), LitestarIntegration(), PyramidIntegration(), QuartIntegration()),
        StarletteIntegration(),
    ],
    auto_enabling_integrations=False,  # they import everything there is
    disabled_integrations=[StdlibIntegration()],  # the client is no part of it
)

from django.core.asgi import get_asgi_application  # noqa: E402 - after Sentry, as in programs
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.test import override_settings  # noqa: E402

from tests.runners import asgi_apps, django_rest_views, django_views, wsgi_apps  # noqa: E402
from tests.runners.handing import ask_asgi, ask_wsgi  # noqa: E402


def told(ask: Callable[..., Any], app: Any, path: str) -> dict[str, Any]:
    """Return what Sentry was told of a request; what comes out of the application, too."""
    events.clear()
    transactions.clear()
    try:
        status = ask(app, path).status_code
    except Exception as error:  # of handlers that fail, and of handlers of errors
        status = str(error)
    return {"status": status, "events": list(events), "transactions": list(transactions)}


def of_frameworks() -> dict[str, Any]:
    """Ask all but Django."""
    found = {}
    for module, ask in ((asgi_apps, ask_asgi), (wsgi_apps, ask_wsgi)):
        for name, path in module.EXPECTED:
            found[f"{name}{path}"] = told(ask, module.APPLICATIONS[name]([]), path)
        for name in module.FAILING:
            found[f"{name}/fails"] = told(ask, module.APPLICATIONS[name]([]), "/fails")
    return found


def of_django() -> dict[str, Any]:
    """Ask what needs no database."""
    found = {}
    middleware = [f"{django_views.__name__}.HandingOver"]
    with override_settings(MIDDLEWARE=middleware, ROOT_URLCONF=django_rest_views.__name__):
        for path in ("marked", "async", "ninja/async", "rest/without-request", "fails"):
            found[f"django-wsgi/{path}"] = told(ask_wsgi, get_wsgi_application(), f"/{path}")
            found[f"django-asgi/{path}"] = told(ask_asgi, get_asgi_application(), f"/{path}")
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(of_frameworks() | of_django()))
