"""Instruments around raincheck and inside of it: what they tell of requests, fast and slow."""

# mypy: disable-error-code="no-untyped-call, import-untyped, untyped-decorator, arg-type"

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware as WSGITelemetry
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_flask_exporter import PrometheusMetrics
from starlette.applications import Starlette
from starlette_exporter import PrometheusMiddleware

from raincheck.asgi import RaincheckMiddleware
from raincheck.flask import Raincheck, monitor_blueprint, status_url
from raincheck.wsgi import RaincheckMiddleware as WSGIMiddleware
from tests.support.processes import ROOT
from tests.support.slow import others_slow

OPTIONS: dict[str, Any] = {"store": "memory:", "budgets": {"/slow/**": 0.05}}
FAILED = "the handler has failed"
PATIENTLY = {"Prefer": "wait=20"}


# --- Sentry ------------------------------------------------------------------------------------


@cache
def told(framework: str, place: str) -> dict[str, Any]:
    """Return what Sentry was told of each kind of request."""
    command = [sys.executable, "-m", "tests.frameworks.instruments.sentry", framework, place]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def of(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in found if each["kind"] == kind]


def without_traces(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**each, "trace": None} for each in found]


ASKED = [
    *(("starlette", "inside"), ("starlette", "around"), ("flask", "inside"), ("flask", "around")),
    ("django", "inside"),
]
EVERYWHERE = pytest.mark.parametrize(("framework", "place"), others_slow(ASKED, 2))
BOTH = pytest.mark.parametrize("framework", others_slow(["starlette", "flask"]))


@EVERYWHERE
@pytest.mark.parametrize("path", ["/fast/succeeds", "/fast/fails"])
def test_sentry_is_told_of_a_fast_request_what_it_is_told_without_raincheck(
    framework: str, place: str, path: str
) -> None:
    bare, wrapped = told(framework, "bare")[path], told(framework, place)[path]
    assert wrapped["statuses"] == bare["statuses"]
    assert without_traces(wrapped["told"]) == without_traces(bare["told"])


@EVERYWHERE
def test_sentry_is_told_once_of_what_a_handler_raises_after_the_202(
    framework: str, place: str
) -> None:
    found = told(framework, place)["/slow/fails"]
    assert found["statuses"] == [202, 500]
    (event,) = of(found["told"], "event")
    assert event["error"] == [FAILED]
    transaction = of(found["told"], "transaction")[0 if place == "inside" else -1]
    assert event["trace"] == transaction["trace"]
    assert event["name"] == transaction["name"]


@BOTH
def test_the_transaction_of_sentry_around_raincheck_ends_with_the_202(framework: str) -> None:
    found = told(framework, "inside")["/slow/succeeds"]
    (transaction,) = found["at_202"]
    assert transaction["status"] == 202
    assert [each for each in found["told"] if each["name"] == transaction["name"]] == [transaction]


@BOTH
def test_the_transaction_of_sentry_inside_raincheck_is_the_handlers(framework: str) -> None:
    slow = told(framework, "around")["/slow/succeeds"]
    assert slow["at_202"] == []
    bare = told(framework, "bare")["/slow/succeeds"]
    assert without_traces(slow["told"]) == without_traces(bare["told"])


@BOTH
@pytest.mark.parametrize("path", ["/slow/succeeds", "/slow/fails"])
def test_sentry_names_no_transaction_after_an_operation(framework: str, path: str) -> None:
    names = {each["name"] for each in told(framework, "inside")[path]["told"]}
    polls = {"starlette": "/operations/{operation_id}", "flask": "generic WSGI request"}
    assert names == {told(framework, "bare")[path]["told"][0]["name"], polls[framework]}


@BOTH
def test_the_check_says_on_which_side_sentry_loses_spans(framework: str) -> None:
    sides = ("bare", "inside", "around")
    assert [told(framework, side)["check"] for side in sides] == [[], ["instrument"], []]


# --- OpenTelemetry -----------------------------------------------------------------------------


class Telemetry:
    """What OpenTelemetry exports, and an application that is told when to go on."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.providers: dict[str, Any] = {
            "tracer_provider": provider,
            "meter_provider": MeterProvider([self.reader]),
        }
        self.tracer = provider.get_tracer("shop")
        self.go_on = threading.Event()

    def work(self, speed: str, end: str) -> str:
        if speed == "slow":
            self.go_on.wait(20)
        with self.tracer.start_as_current_span("the work"):
            pass
        if end == "fails":
            raise ValueError(FAILED)
        return "done"

    def ask(self, get: Callable[..., Any], path: str) -> list[ReadableSpan]:
        """Return the spans of a request; those of polls aside."""
        response = get(path)
        self.go_on.set()
        while response.status_code == 202:
            response = get(response.headers["location"], headers=PATIENTLY)
        assert response.status_code == (500 if path.endswith("fails") else 200)
        spans = self.exporter.get_finished_spans()
        wanted = [span for span in spans if not is_poll(span) and not is_message(span)]
        assert len({span.context.span_id for span in wanted}) == len(wanted)  # each ended once
        return wanted

    def labels(self) -> set[Any]:
        """Return all values of all labels of the metrics."""
        data = self.reader.get_metrics_data()
        return {
            value
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            for value in (point.attributes or {}).values()
        }


def is_message(span: ReadableSpan) -> bool:
    return span.name.endswith((" http send", " http receive"))


def is_poll(span: ReadableSpan) -> bool:
    attributes = span.attributes or {}
    return "/operations/" in f"{span.name} {attributes.get('http.target')}"


def raised(span: ReadableSpan) -> list[Any]:
    return [(event.attributes or {}).get("exception.message") for event in span.events]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.go_on.set()


def of_fastapi(telemetry: Telemetry, place: str) -> Callable[..., Any]:
    app: Any = FastAPI()
    app.add_api_route("/{speed}/now/{end}", telemetry.work)
    if place == "both":
        app.add_middleware(OpenTelemetryMiddleware, **telemetry.providers)
    if place in ("outside", "both"):
        app.add_middleware(RaincheckMiddleware, **OPTIONS)
    FastAPIInstrumentor.instrument_app(app, **telemetry.providers)
    if place == "inside":
        app = RaincheckMiddleware(app, **OPTIONS)

    async def ask(path: str, headers: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.get(path, headers=headers)

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def get(path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(ask(path, headers or {}), loop).result(30)

    return get


def of_flask(telemetry: Telemetry, place: str) -> Callable[..., Any]:
    app = Flask("shop")
    app.add_url_rule("/<speed>/now/<end>", view_func=telemetry.work)
    if place == "outside":
        app.wsgi_app = WSGIMiddleware(app.wsgi_app, **OPTIONS)  # type: ignore[method-assign]
        app.wsgi_app = WSGITelemetry(app.wsgi_app, **telemetry.providers)  # type: ignore[method-assign]
    else:
        FlaskInstrumentor().instrument_app(app, **telemetry.providers)
        if place != "bare":
            Raincheck(app, **OPTIONS)
    if place == "both":
        app.wsgi_app = WSGITelemetry(app.wsgi_app, **telemetry.providers)  # type: ignore[method-assign]
    return httpx.Client(
        transport=httpx.WSGITransport(app, raise_app_exceptions=False), base_url="http://shop"
    ).get


APPLICATIONS = {"fastapi": of_fastapi, "flask": of_flask}
FRAMEWORKS = pytest.mark.parametrize("framework", APPLICATIONS)


@FRAMEWORKS
@pytest.mark.parametrize("end", ["succeeds", "fails"])
def test_on_both_sides_the_span_ends_with_the_202_and_the_handlers_is_its_child(
    telemetry: Telemetry, framework: str, end: str
) -> None:
    get = APPLICATIONS[framework](telemetry, "both")
    server, work, handler = telemetry.ask(get, f"/slow/now/{end}")
    assert server.kind is SpanKind.SERVER
    assert (server.attributes or {})["http.status_code"] == 202
    assert raised(server) == []
    assert handler.parent == server.context
    assert work.parent == handler.context
    assert raised(handler) == ([FAILED] if end == "fails" else [])
    assert handler.end_time > server.end_time  # type: ignore[operator]


@FRAMEWORKS
@pytest.mark.parametrize("end", ["succeeds", "fails"])
def test_opentelemetry_around_raincheck_only_keeps_the_trace_together(
    telemetry: Telemetry, framework: str, end: str
) -> None:
    get = APPLICATIONS[framework](telemetry, "outside")
    server, work = telemetry.ask(get, f"/slow/now/{end}")
    assert (server.attributes or {})["http.status_code"] == 202
    assert work.parent == server.context


@FRAMEWORKS
@pytest.mark.parametrize("end", ["succeeds", "fails"])
@pytest.mark.parametrize("speed", ["fast", "slow"])
def test_opentelemetry_inside_raincheck_sees_what_it_sees_without(
    framework: str, speed: str, end: str
) -> None:
    seen = []
    for place in ("bare", "inside"):
        telemetry = Telemetry()
        get = APPLICATIONS[framework](telemetry, place)
        if place == "bare":
            telemetry.go_on.set()
        work, server = telemetry.ask(get, f"/{speed}/now/{end}")
        assert work.parent == server.context
        attributes = dict(server.attributes or {})
        attributes.pop("net.peer.port", None)
        status = server.status.status_code
        seen.append((server.name, server.kind, raised(server), status, attributes))
    assert seen[0] == seen[1]


@FRAMEWORKS
@pytest.mark.parametrize("place", ["outside", "inside", "both"])
def test_no_metric_of_opentelemetry_has_a_label_per_operation(
    telemetry: Telemetry, framework: str, place: str
) -> None:
    get = APPLICATIONS[framework](telemetry, place)
    telemetry.ask(get, "/slow/now/succeeds")
    labels = {label for label in telemetry.labels() if "operations" in str(label)}
    assert labels <= {"/operations/{operation_id}"}


# --- Prometheus --------------------------------------------------------------------------------


async def follow(app: Any, telemetry: Telemetry) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        response = await client.get("/slow/now/succeeds")
        telemetry.go_on.set()
        assert response.status_code == 202
        while response.status_code == 202:
            response = await client.get(response.headers["location"], headers=PATIENTLY)
        assert response.text == '"done"'


@pytest.mark.parametrize("is_outside", [True, False])
def test_metrics_of_fastapi_have_no_label_per_operation(
    telemetry: Telemetry, is_outside: bool
) -> None:
    app, registry = FastAPI(), CollectorRegistry()
    app.add_api_route("/{speed}/now/{end}", telemetry.work)
    if is_outside:
        app.add_middleware(RaincheckMiddleware, **OPTIONS)
    Instrumentator(registry=registry).instrument(app)
    if not is_outside:
        app.add_middleware(RaincheckMiddleware, **OPTIONS)
    asyncio.run(follow(app, telemetry))
    text = generate_latest(registry).decode()
    assert '{handler="/{speed}/now/{end}",method="GET",status="2xx"} 1.0' in text
    assert "operations" not in text


@pytest.mark.parametrize("is_outside", [True, False])
def test_metrics_of_starlette_have_no_label_per_operation(
    telemetry: Telemetry, is_outside: bool
) -> None:
    app = FastAPI()
    app.add_api_route("/{speed}/now/{end}", telemetry.work)
    prefix = f"shop_{is_outside}".lower()
    if is_outside:
        app.add_middleware(RaincheckMiddleware, **OPTIONS)
    app.add_middleware(PrometheusMiddleware, prefix=prefix)
    if not is_outside:
        app.add_middleware(RaincheckMiddleware, **OPTIONS)
    asyncio.run(follow(app, telemetry))
    lines = [line for line in generate_latest(REGISTRY).decode().splitlines() if prefix in line]
    status = 202 if is_outside else 200
    assert any(f'path="/{{speed}}/now/{{end}}",status_code="{status}"' in line for line in lines)
    assert not [line for line in lines if "operations" in line]


@pytest.mark.parametrize("is_routed", [True, False])
def test_metrics_of_flask_have_no_label_per_operation(
    telemetry: Telemetry, is_routed: bool
) -> None:
    app, registry = Flask("shop"), CollectorRegistry()
    app.add_url_rule("/<speed>/now/<end>", view_func=telemetry.work)
    PrometheusMetrics(app, registry=registry, group_by="url_rule")
    if is_routed:
        app.register_blueprint(monitor_blueprint(), url_prefix="/pending")
        Raincheck(app, status_url=status_url(app), **OPTIONS)
    else:
        Raincheck(app, **OPTIONS)
    telemetry.ask(app.test_client().get, "/slow/now/succeeds")
    text = generate_latest(registry).decode()
    assert 'url_rule="/<speed>/now/<end>"' in text
    assert ('url_rule="/pending/<operation_id>"' in text) is is_routed
    assert "/pending/0" not in text.replace("<operation_id>", "")


# --- what instruments look at ------------------------------------------------------------------


def test_polls_have_a_route_and_an_endpoint_in_their_scope_as_all_requests_have() -> None:
    app = Starlette()
    app.add_middleware(RaincheckMiddleware, store="memory:")
    seen = {}

    async def around(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        seen[scope["path"]] = scope["route"].path, scope["route"].path_format, scope["endpoint"]

    async def ask() -> None:
        transport = httpx.ASGITransport(around)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            for path in ("/operations/0", "/operations/0/status", "/operations/0/what"):
                await client.get(path)

    asyncio.run(ask())
    routes = {path: path_format for path, (path_format, _, _) in seen.items()}
    assert routes == {
        "/operations/0": "/operations/{operation_id}",
        "/operations/0/status": "/operations/{operation_id}/status",
        "/operations/0/what": "/operations/{operation_id}",
    }
    assert all(path == path_format and callable(e) for path, path_format, e in seen.values())
