"""Marked responders in Falcon's WSGI flavour: hooks, middleware, suffixes, sinks, streams."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, ClassVar, cast

import falcon
import pytest
from falcon import App, Request, Response

from raincheck import long_running
from tests.frameworks.session import Paths, document
from tests.frameworks.work import MADE_BY, Trouble, Work
from tests.frameworks.wsgi_checks import (
    WAITRESS,
    MarkedViews,
    ReleasedViews,
    check_on_a_wsgi_server,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class Doorman:
    """Knows who may come near `/guarded`, before it is even routed."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def process_request(self, req: Request, resp: Response) -> None:
        self._work.step("process_request")
        badge = req.get_header("authorization")
        if req.path == "/guarded" and badge is None:
            raise falcon.HTTPUnauthorized(description="who are you?")
        if req.path == "/guarded" and badge != "good":
            raise falcon.HTTPForbidden(description="not you")

    def process_resource(self, req: Request, resp: Response, *more: Any) -> None:
        self._work.step("process_resource")

    def process_response(self, req: Request, resp: Response, *more: Any) -> None:
        resp.set_header("x-seen", req.path)
        self._work.step("process_response")


def _read_order(req: Request, _: Response, __: Any, params: dict[str, Any]) -> None:
    media = req.get_media()
    if not isinstance(media, dict) or not isinstance(media.get("order"), str):
        raise falcon.HTTPUnprocessableEntity(description="order what?")
    params["order"] = media["order"]


def _made(resp: Response, text: str) -> None:
    resp.status = 201
    resp.media = {"made": text}
    resp.set_header(MADE_BY, "hand")


def _answer_trouble(req: Request, resp: Response, error: Trouble, params: Any) -> None:
    resp.status = 503
    resp.text = f"in trouble: {error}"


def _marked(work: Work) -> object:
    class Marked:
        @long_running
        def on_post(self, req: Request, resp: Response) -> None:
            _made(resp, work.in_thread(req.get_media()["order"]))

        @long_running
        def on_post_stream(self, req: Request, resp: Response) -> None:
            text = work.in_thread(req.get_media()["order"])
            _made(resp, text)
            resp.stream = io.BytesIO(text.encode())

        @long_running
        def on_post_raised(self, req: Request, resp: Response) -> None:
            text = work.in_thread(req.get_media()["order"])
            raise falcon.HTTPStatus(201, {MADE_BY: "hand"}, text)

    return Marked()


def _hooked(work: Work) -> object:
    class Hooked:
        @falcon.before(_read_order)
        @long_running
        def on_post(self, req: Request, resp: Response, order: str) -> None:
            _made(resp, work.in_thread(order))

    return Hooked()


def _all_hooked(work: Work) -> object:
    @falcon.before(_read_order)
    class AllHooked:
        @long_running
        def on_post(self, req: Request, resp: Response, order: str) -> None:
            _made(resp, work.in_thread(order))

    return AllHooked()


def _unmarked(work: Work) -> object:
    class Unmarked:
        def on_post(self, req: Request, resp: Response) -> None:
            _made(resp, work.in_thread(req.get_media()["order"]))

        def on_get(self, req: Request, resp: Response) -> None:
            resp.text = "plain"

    return Unmarked()


def build(work: Work) -> WSGIApplication:
    """Return the application."""

    @long_running
    def sink(req: Request, resp: Response, **path: Any) -> None:
        _made(resp, work.in_thread(req.get_media()["order"]))

    app: App[Request, Response] = App(middleware=[Doorman(work)])
    app.add_error_handler(Trouble, _answer_trouble)
    marked, hooked, unmarked = _marked(work), _hooked(work), _unmarked(work)
    app.add_route("/sync", marked)
    app.add_route("/stream", marked, suffix="stream")
    app.add_route("/raised", marked, suffix="raised")
    app.add_route("/hooked", hooked)
    app.add_route("/guarded", hooked)
    app.add_route("/hooked/all", _all_hooked(work))
    app.add_route("/unmarked", unmarked)
    app.add_route("/plain", unmarked)
    app.add_sink(sink, "/sink")
    return cast("WSGIApplication", app)


def serve() -> WSGIApplication:
    """Return the application for a real server."""
    return ReleasedViews(build(work := Work()), work)


class TestFalcon(MarkedViews):
    on_loop: ClassVar[Paths] = ()
    in_thread: ClassVar[Paths] = (
        "/sync",
        "/hooked",
        "/hooked/all",
        "/stream",
        "/raised",
        "/sink/tea",
    )
    refused = (
        ("/guarded", {}, document(order="tea"), 401),
        ("/guarded", {"authorization": "forged"}, document(order="tea"), 403),
        ("/guarded", {"authorization": "good"}, document(order=3), 422),
        ("/hooked", {}, b"no JSON", 400),
        ("/hooked/all", {"content-type": "text/plain"}, b"tea", 415),
        ("/nowhere", {}, b"", 404),
    )
    around = ("process_request", "process_resource", "work", "process_response")
    trouble = 503

    def build(self, work: Work) -> WSGIApplication:
        return build(work)


@pytest.mark.slow
@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_wsgi_server(WAITRESS, __name__, ("/sync", "/hooked"))
