"""Marked responders and sinks of Falcon."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any, ClassVar

import falcon

from raincheck import long_running
from tests.handlers.checks import RAN, Case, FindsHandlers, WSGIApp


def ran(response: falcon.Response, name: str) -> None:
    RAN.append(name)
    response.text = name


def hook(request: falcon.Request, response: falcon.Response, *more: Any) -> None: ...


class Report:
    def on_get(self, request: falcon.Request, response: falcon.Response, **path: Any) -> None:
        ran(response, "get")

    @long_running
    def on_post(self, request: falcon.Request, response: falcon.Response, **path: Any) -> None:
        ran(response, "post")

    @falcon.before(hook)
    @long_running
    def on_put(self, request: falcon.Request, response: falcon.Response, **path: Any) -> None:
        ran(response, "put")

    @long_running
    def on_post_all(self, request: falcon.Request, response: falcon.Response) -> None:
        ran(response, "post_all")


@falcon.before(hook)
class Hooked:
    @long_running
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        ran(response, "hooked")


@long_running
def sink(req: falcon.Request, resp: falcon.Response, **path: Any) -> None:
    ran(resp, "sink")


def build() -> falcon.App[Any, Any]:
    app: falcon.App[Any, Any] = falcon.App()
    app.add_route("/report/{number:int}", Report())
    app.add_route("/bücher/{name}", Report())
    app.add_route("/reports", Report(), suffix="all")
    app.add_route("/hooked", Hooked())
    app.add_route("/", Report())
    app.add_sink(sink, "/sink")
    return app


class TestFalcon(FindsHandlers):
    app: ClassVar[WSGIApp] = build()
    cases = (
        Case("GET", "/report/1", False),
        Case("POST", "/report/1", True),
        Case("PUT", "/report/1", True),
        Case("DELETE", "/report/1", False),
        Case("POST", "/report/one", False),
        Case("POST", "/bücher/ä", True),
        Case("GET", "/bücher/ä", False),
        Case("POST", "/reports", True),
        Case("POST", "/reports/", False),
        Case("GET", "/reports", False),
        Case("POST", "/hooked", True),
        Case("GET", "/sink/anything", True),
        Case("GET", "/none", False),
        Case("GET", "", False),
    )


def stripping() -> falcon.App[Any, Any]:
    app = build()
    app.req_options.strip_url_path_trailing_slash = True
    return app


class TestWithoutTrailingSlashes(FindsHandlers):
    app: ClassVar[WSGIApp] = stripping()
    cases = (Case("POST", "/reports/", True), Case("POST", "/", True), Case("GET", "/", False))
