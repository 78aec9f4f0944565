"""What the start-up check says of the order in which middlewares are, with the real ones."""

# mypy: disable-error-code="untyped-decorator, arg-type, no-untyped-call, import-untyped"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import pytest
from fastapi import FastAPI
from flask_compress import Compress
from flask_cors import CORS
from litestar import Litestar
from litestar.middleware import DefineMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.starlette import StarletteInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware as WSGITelemetry
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_flask_exporter import PrometheusMetrics
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as BuiltIn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette_exporter import PrometheusMiddleware
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from raincheck.asgi import RaincheckMiddleware
from raincheck.flask import Raincheck, monitor_blueprint
from raincheck.flask import status_url as flask_status_url
from raincheck.inspection.check import check
from raincheck.starlette import monitor_routes, status_url
from raincheck.wsgi import RaincheckMiddleware as WSGIMiddleware

OURS: dict[str, Any] = {"store": "memory:"}


class Timing(BaseHTTPMiddleware): ...


def codes(app: object) -> list[str]:
    report = check(app)
    assert report is not None
    return [complaint.code for complaint in report.complaints]


def added(outside: Any, *, first: bool, framework: Any = Starlette, **options: Any) -> Any:
    """Return an application with raincheck and another middleware, added first or last."""
    app = framework()
    if first:
        app.add_middleware(outside, **options)
    app.add_middleware(RaincheckMiddleware, **OURS)
    if not first:
        app.add_middleware(outside, **options)
    return app


def endpoint(request: Request) -> Response:
    return Response()


def flask_app() -> flask.Flask:
    return flask.Flask(__name__, static_folder=None)


# --- CORS, compression, BaseHTTPMiddleware -----------------------------------------------------


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
def test_cors_inside_raincheck_is_complained_about(framework: Any) -> None:
    assert codes(added(CORSMiddleware, first=True, framework=framework)) == ["cors"]
    assert codes(added(CORSMiddleware, first=False, framework=framework)) == []
    assert codes(RaincheckMiddleware(CORSMiddleware(framework()), **OURS)) == ["cors"]
    assert codes(CORSMiddleware(RaincheckMiddleware(framework(), **OURS))) == []


def test_cors_inside_a_mounted_application_is_complained_about_if_none_is_outside() -> None:
    api = Starlette(middleware=[Middleware(CORSMiddleware)])
    app = Starlette(routes=[Mount("/api", app=api)])
    app.add_middleware(RaincheckMiddleware, **OURS)
    assert codes(app) == ["cors"]
    app.add_middleware(CORSMiddleware)
    assert codes(app) == []


def test_cors_around_the_mount_of_what_raincheck_is_in_is_outside() -> None:
    api = added(TrustedHostMiddleware, first=False)
    app = Starlette(routes=[Mount("/api", app=api)], middleware=[Middleware(CORSMiddleware)])
    assert codes(app) == []


def test_cors_of_flask_is_inside_and_minds_the_202_all_the_same() -> None:
    app = flask_app()
    CORS(app)
    Compress(app)
    Raincheck(app, **OURS)
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    assert codes(app) == []


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
def test_compression_around_raincheck_is_complained_about(framework: Any) -> None:
    assert codes(added(GZipMiddleware, first=False, framework=framework)) == ["compression"]
    assert codes(added(GZipMiddleware, first=True, framework=framework)) == []


def test_what_reads_compressed_requests_is_no_compression() -> None:
    class DecompressMiddleware:
        def __init__(self, app: Any) -> None: ...

    assert codes(added(DecompressMiddleware, first=False)) == []


def test_compression_around_the_mount_of_what_raincheck_is_in_is_complained_about() -> None:
    api = RaincheckMiddleware(Starlette(), **OURS)
    assert codes(GZipMiddleware(Starlette(routes=[Mount("/api", app=api)]))) == ["compression"]


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
def test_middleware_that_sees_responses_only_as_they_leave_is_complained_about_outside(
    framework: Any,
) -> None:
    assert codes(added(Timing, first=False, framework=framework)) == ["base-http"]
    assert codes(added(Timing, first=True, framework=framework)) == []


def test_a_function_of_a_middleware_is_named_in_the_complaint() -> None:
    app = FastAPI()
    app.add_middleware(RaincheckMiddleware, **OURS)

    @app.middleware("http")
    async def timing(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    report = check(app)
    assert report is not None
    assert "timing(): it is around RaincheckMiddleware" in str(report)


# --- instruments -------------------------------------------------------------------------------


def test_opentelemetry_that_is_only_around_is_complained_about() -> None:
    app = FastAPI()
    app.add_middleware(RaincheckMiddleware, **OURS)
    FastAPIInstrumentor.instrument_app(app)
    assert codes(app) == ["instrument"]
    assert codes(OpenTelemetryMiddleware(RaincheckMiddleware(FastAPI(), **OURS))) == ["instrument"]
    starlette = Starlette()
    starlette.add_middleware(RaincheckMiddleware, **OURS)
    StarletteInstrumentor.instrument_app(starlette)
    assert codes(starlette) == ["instrument"]


def test_opentelemetry_that_is_inside_or_on_both_sides_is_not() -> None:
    both = added(OpenTelemetryMiddleware, first=True, framework=FastAPI)
    FastAPIInstrumentor.instrument_app(both)
    inside = FastAPI()
    FastAPIInstrumentor.instrument_app(inside)
    assert codes(both) == codes(RaincheckMiddleware(inside, **OURS)) == []


def test_opentelemetry_of_starlette_makes_one_span_so_the_handlers_is_another_ones() -> None:
    outside = added(BuiltIn, first=False)
    assert codes(outside) == ["instrument"]
    app = added(BuiltIn, first=True)
    app.add_middleware(BuiltIn)
    assert codes(app) == ["instrument"]
    app = added(OpenTelemetryMiddleware, first=True)
    app.add_middleware(BuiltIn)
    assert codes(app) == []


def test_flask_that_is_instrumented_too_late_is_complained_about() -> None:
    late, first = flask_app(), flask_app()
    Raincheck(late, **OURS)
    FlaskInstrumentor().instrument_app(late)
    assert codes(late) == ["instrument"]
    FlaskInstrumentor().instrument_app(first)
    Raincheck(first, **OURS)
    assert codes(first) == []
    first.wsgi_app = WSGITelemetry(first.wsgi_app)  # type: ignore[method-assign]
    assert codes(first) == []
    assert codes(WSGITelemetry(WSGIMiddleware(flask_app(), **OURS))) == ["instrument"]


@pytest.mark.parametrize(
    ("options", "is_labelling"),
    [
        ({}, False),
        ({"filter_unhandled_paths": False}, True),
        ({"filter_unhandled_paths": False, "group_unhandled_paths": True}, False),
    ],
)
def test_metrics_of_starlette_with_a_label_per_operation_are_complained_about(
    options: dict[str, Any], is_labelling: bool
) -> None:
    wrong = ["labels"] if is_labelling else []
    assert codes(added(PrometheusMiddleware, first=False, **options)) == wrong
    assert codes(added(PrometheusMiddleware, first=True, **options)) == []


@pytest.mark.parametrize("is_grouping", [True, False])
def test_metrics_of_fastapi_with_a_label_per_operation_are_complained_about(
    is_grouping: bool,
) -> None:
    app = FastAPI()
    app.add_middleware(RaincheckMiddleware, **OURS)
    Instrumentator(should_group_untemplated=is_grouping, registry=CollectorRegistry()).instrument(
        app
    )
    assert codes(app) == ([] if is_grouping else ["labels"])


@pytest.mark.parametrize("group_by", ["path", "url_rule", "endpoint"])
@pytest.mark.parametrize("is_routed", [True, False])
def test_metrics_of_flask_with_a_label_per_operation_are_complained_about(
    group_by: str, is_routed: bool
) -> None:
    app = flask_app()
    PrometheusMetrics(app, registry=CollectorRegistry(), group_by=group_by)
    if is_routed:
        app.register_blueprint(monitor_blueprint(), url_prefix="/pending")
        Raincheck(app, status_url=flask_status_url(app), **OURS)
    else:
        Raincheck(app, **OURS)
    assert codes(app) == (["labels"] if is_routed and group_by == "path" else [])


# --- a route for R -----------------------------------------------------------------------------


def mounted(*routes: Any) -> Starlette:
    return Starlette(routes=list(routes))


def in_api(**options: Any) -> Any:
    return RaincheckMiddleware(Starlette(), **OURS, **options)


ROUTED: dict[str, Callable[[], object]] = {
    "a mount": lambda: mounted(Mount("/api", app=in_api())),
    "a mount in a mount": lambda: mounted(Mount("/v1", routes=[Mount("/api", app=in_api())])),
    "a parameter": lambda: mounted(Mount("/{tenant}", app=in_api())),
    "another mount": lambda: mounted(Mount("/operations", app=Router()), Mount("/", app=in_api())),
    "another prefix": lambda: mounted(
        Mount("/operations", app=Router()), Mount("/", app=in_api(prefix="/pending"))
    ),
    "around all": lambda: RaincheckMiddleware(mounted(Mount("/operations", app=Router())), **OURS),
    "dispatched": lambda: DispatcherMiddleware(
        flask_app(), {"/api": WSGIMiddleware(flask_app(), **OURS)}
    ),
    "shadowed by a dispatcher": lambda: DispatcherMiddleware(
        WSGIMiddleware(flask_app(), **OURS), {"/operations": flask_app()}
    ),
    "shadowed in a dispatcher": lambda: DispatcherMiddleware(
        flask_app(),
        {"/api": WSGIMiddleware(flask_app(), **OURS), "/api/operations": flask_app()},
    ),
    "a route before the mount": lambda: mounted(
        Route("/api/{rest:path}", endpoint), Mount("/api", app=in_api())
    ),
    "litestar": lambda: RaincheckMiddleware(Litestar([]), **OURS),
    "in litestar": lambda: Litestar([], middleware=[DefineMiddleware(RaincheckMiddleware, **OURS)]),
    "monitor routes": lambda: monitored(True),
    "no monitor routes": lambda: monitored(False),
    "blueprint": lambda: monitored_flask(True),
    "no blueprint": lambda: monitored_flask(False),
}
UNROUTED = {
    *("another mount", "shadowed by a dispatcher", "shadowed in a dispatcher"),
    *("a route before the mount", "in litestar", "no monitor routes", "no blueprint"),
}


def monitored(is_mounted: bool) -> Starlette:
    app = mounted(*([Mount("/pending", routes=monitor_routes())] if is_mounted else []))
    app.add_middleware(RaincheckMiddleware, status_url=status_url, **OURS)
    return app


def monitored_flask(is_mounted: bool) -> flask.Flask:
    app = flask_app()
    if is_mounted:
        app.register_blueprint(monitor_blueprint(), url_prefix="/pending")
    Raincheck(app, status_url=flask_status_url(app), **OURS)
    return app


@pytest.mark.parametrize("name", ROUTED)
def test_polls_that_never_come_to_raincheck_are_complained_about(name: str) -> None:
    assert codes(ROUTED[name]()) == (["no-route"] if name in UNROUTED else [])


def test_the_complaint_names_the_path_that_another_route_takes() -> None:
    report = check(ROUTED["shadowed in a dispatcher"]())
    assert report is not None
    assert str(report).startswith("GET /api/operations/{operation_id}: another route takes it")
