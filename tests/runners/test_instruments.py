"""What Sentry and OpenTelemetry see of a request whose handler runs elsewhere: no error."""

# mypy: disable-error-code="no-untyped-call, import-untyped"

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from tests.runners import asgi_apps, wsgi_apps
from tests.runners.handing import ask_asgi, ask_wsgi
from tests.support.processes import ROOT

pytestmark = pytest.mark.framework
UNSEEN = {"falcon-asgi/async", "werkzeug/"}  # Sentry has no instrument for these


@cache
def told() -> dict[str, Any]:
    """Return what Sentry was told of each handler."""
    command = [sys.executable, "-m", "tests.runners.sentry"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_sentry_is_told_of_no_handler_that_runs_elsewhere() -> None:
    left = {name: found for name, found in told().items() if not name.endswith("/fails")}
    assert len(left) == len(asgi_apps.EXPECTED) + len(wsgi_apps.EXPECTED) + 8
    for name, found in left.items():
        transactions = [] if name in UNSEEN else ["ok"]
        assert found == {"status": 202, "events": [], "transactions": transactions}, name


@pytest.mark.slow
def test_sentry_is_told_of_handlers_that_fail() -> None:
    failed = {name: found for name, found in told().items() if name.endswith("/fails")}
    assert len(failed) == len(asgi_apps.FAILING) + len(wsgi_apps.FAILING) + 2
    assert [name for name, found in failed.items() if not found["events"]] == []


@pytest.mark.parametrize(
    ("instrumentor", "build", "ask", "path"),
    [
        (FastAPIInstrumentor, asgi_apps.fastapi, ask_asgi, "/async"),
        (FlaskInstrumentor, wsgi_apps.flask, ask_wsgi, "/sync"),
    ],
    ids=["fastapi", "flask"],
)
def test_the_span_of_opentelemetry_is_clean(
    instrumentor: Any, build: Callable[..., Any], ask: Callable[..., Any], path: str
) -> None:
    exporter, provider, app = InMemorySpanExporter(), TracerProvider(), build([])
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor().instrument_app(app, tracer_provider=provider)
    assert ask(app, path).status_code == 202
    span = exporter.get_finished_spans()[-1]
    assert (span.attributes or {})["http.status_code"] == 202
    assert span.status.status_code is StatusCode.UNSET
    assert span.events == ()
