"""Marked callbacks in Bottle: functions, hooks, plugins, a mounted application."""

# mypy: disable-error-code="import-untyped, no-any-unimported, untyped-decorator, no-untyped-call"

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import pytest
from bottle import Bottle, HTTPError, HTTPResponse, request, response

from raincheck import long_running
from tests.frameworks.session import Paths, document
from tests.frameworks.work import MADE_BY, Work
from tests.frameworks.wsgi_checks import (
    WAITRESS,
    MarkedViews,
    ReleasedViews,
    check_on_a_wsgi_server,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


JSON = {"content-type": "application/json"}


def _made(text: str) -> dict[str, str]:
    response.status = 201
    response.set_header(MADE_BY, "hand")
    return {"made": text}


def _order() -> str:
    return str(request.json["order"])


def checking_order(callback: Callable[[], object]) -> Callable[[], object]:
    """Be a plugin of the kind that Bottle applies to a route."""

    @functools.wraps(callback)
    def checked() -> object:
        if not isinstance(request.json.get("order"), str):
            raise HTTPError(422, "order what?")
        return callback()

    return checked


def _add_callbacks(app: Bottle, work: Work) -> None:
    @app.post("/sync")
    @long_running
    def in_thread() -> dict[str, str]:
        return _made(work.in_thread(_order()))

    @app.post("/order/<order>")
    @long_running
    def by_path(order: str) -> dict[str, str]:
        return _made(work.in_thread(_order()))

    @app.post("/applied", apply=[long_running])
    def applied() -> dict[str, str]:
        return _made(work.in_thread(_order()))

    @app.post("/returned")
    @long_running
    def returned() -> HTTPResponse:
        return HTTPResponse(work.in_thread(_order()), 201, {MADE_BY: "hand"})

    @app.post("/raised")
    @long_running
    def raised() -> None:
        raise HTTPResponse(work.in_thread(_order()), 201, {MADE_BY: "hand"})

    @app.post("/yielded")
    @long_running
    def yielded() -> object:
        made = _made(work.in_thread(_order()))["made"]
        return (f"{word} " for word in made.split())


def _add_others(app: Bottle, work: Work) -> None:
    @app.post("/guarded", apply=[checking_order])
    @long_running
    def guarded() -> dict[str, str]:
        return _made(work.in_thread(_order()))

    @app.post("/unmarked")
    def unmarked() -> dict[str, str]:
        return _made(work.in_thread(_order()))

    @app.get("/plain")
    def plain() -> str:
        return "plain"


def _add_hooks(app: Bottle, work: Work) -> None:
    @app.hook("before_request")
    def before() -> None:
        work.step("before")
        badge = request.get_header("authorization")
        if request.path == "/guarded" and badge != "good":
            raise HTTPError(403 if badge else 401, "not you")

    @app.hook("after_request")
    def after() -> None:
        response.set_header("x-seen", request.path)
        work.step("after")

    @app.error(500)
    def trouble(error: HTTPError) -> str:
        return f"in trouble: {error.exception}"


def build(work: Work) -> WSGIApplication:
    """Return the application."""
    app, inner = Bottle(), Bottle()
    _add_callbacks(app, work)
    _add_callbacks(inner, work)
    _add_others(app, work)
    _add_hooks(app, work)
    app.mount("/inner/", inner)
    wsgi: WSGIApplication = app.wsgi
    return wsgi


def serve() -> WSGIApplication:
    """Return the application for a real server."""
    return ReleasedViews(build(work := Work()), work)


class TestBottle(MarkedViews):
    on_loop: ClassVar[Paths] = ()
    in_thread: ClassVar[Paths] = (
        "/sync",
        "/order/tea",
        "/applied",
        "/returned",
        "/raised",
        "/yielded",
        "/inner/sync",
    )
    refused = (
        ("/guarded", {}, document(order="tea"), 401),
        ("/guarded", {"authorization": "forged"}, document(order="tea"), 403),
        ("/guarded", {"authorization": "good", **JSON}, document(order=3), 422),
        ("/guarded", {"authorization": "good", **JSON}, b"no JSON", 400),
        ("/plain", {}, b"", 405),
        ("/nowhere", {}, b"", 404),
    )
    around = ("before", "work", "after")
    trouble = 500

    def build(self, work: Work) -> WSGIApplication:
        return build(work)


@pytest.mark.slow
@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_wsgi_server(WAITRESS, __name__, ("/sync", "/inner/sync"))
