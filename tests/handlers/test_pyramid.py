"""Marked views of Pyramid: functions, methods, by route and by traversal."""

# mypy: disable-error-code="import-untyped, untyped-decorator, no-any-unimported, misc"

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from raincheck import long_running
from raincheck.inspection import find_directory
from tests.handlers.checks import RAN, Case, FindsHandlers, WSGIApp

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # WebOb imports `cgi`
    from pyramid.config import Configurator
    from pyramid.request import Request
    from pyramid.response import Response


def ran(name: str) -> Response:
    RAN.append(name)
    return Response(name)


def plain(request: Request) -> Response:
    return ran("plain")


@long_running
def marked(request: Request) -> Response:
    return ran("marked")


@long_running
def in_context(context: object, request: Request) -> Response:
    return ran("in_context")


class Views:
    def __init__(self, request: Request) -> None:
        self.request = request

    @long_running
    def export(self) -> Response:
        return ran("export")

    def show(self) -> Response:
        return ran("show")

    @long_running
    def __call__(self) -> Response:
        return ran("call")


def build(**options: Any) -> WSGIApp:
    with Configurator(**options) as config:
        for name in ("plain", "marked", "both", "export", "show", "class"):
            config.add_route(name, f"/{name}")
        config.add_route("books", "/bücher/{name}")
        config.add_view(plain, route_name="plain")
        config.add_view(marked, route_name="marked", request_method="POST")
        config.add_view(marked, route_name="both", request_method="POST")
        config.add_view(plain, route_name="both", request_method="GET")
        config.add_view(marked, route_name="books")
        config.add_view(Views, attr="export", route_name="export")
        config.add_view(Views, attr="show", route_name="show")
        config.add_view(Views, route_name="class")
    app: WSGIApp = config.make_wsgi_app()
    return app


def by_traversal() -> WSGIApp:
    with Configurator() as config:
        config.add_route("plain", "/plain")
        config.add_route("all", "/all/*traverse", use_global_views=True)
        config.add_route("posted", "/posted", request_method="POST")
        config.add_route("late", "/posted")
        config.add_view(plain, route_name="plain")
        config.add_view(plain, route_name="posted")
        config.add_view(marked, route_name="late")
        config.add_view(plain, name="show")
        config.add_view(in_context, name="export")
    app: WSGIApp = config.make_wsgi_app()
    return app


UNSURE = "which view is called is decided by predicates"


class TestPyramid(FindsHandlers):
    app: ClassVar[WSGIApp] = build()
    cases = (
        Case("GET", "/plain", False),
        Case("POST", "/marked", True),
        Case("POST", "/both", True),
        Case("GET", "/both", True, unless=UNSURE),
        Case("GET", "/bücher/ä", True),
        Case("GET", "/export", True),
        Case("GET", "/show", False),
        Case("GET", "/class", True),
    )


class TestTraversal(FindsHandlers):
    app: ClassVar[WSGIApp] = by_traversal()
    cases = (
        Case("GET", "/export", True),
        Case("GET", "/show", True, unless=UNSURE),
        Case("GET", "/plain", False),
        Case("GET", "/all/export", True),
        Case("GET", "/posted", True),
        Case("POST", "/posted", True, unless=UNSURE),
    )


class TestWithoutNotes(FindsHandlers):
    app: ClassVar[WSGIApp] = build(introspection=False)
    cases = (
        Case("POST", "/marked", True),
        Case("GET", "/plain", True, unless="the configuration has noted down nothing"),
    )

    def test_every_endpoint_is_listed_and_none_is_run(self) -> None:
        directory = find_directory(type(self).app)
        assert directory is not None
        assert list(directory.all()) == []


def test_endpoints_are_listed_with_their_methods() -> None:
    directory = find_directory(TestPyramid.app)
    assert directory is not None
    assert ("/marked", marked, frozenset({"POST"})) in [
        (endpoint.where, endpoint.handler, endpoint.methods) for endpoint in directory.all()
    ]
