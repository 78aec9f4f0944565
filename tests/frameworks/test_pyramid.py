"""Marked views in Pyramid: functions, classes, `view_config`, predicates, tweens, traversal."""

# mypy: disable-error-code="import-untyped, no-any-unimported, untyped-decorator, misc"

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from raincheck import long_running
from tests.frameworks.session import Paths, document
from tests.frameworks.work import MADE_BY, TROUBLE, Trouble, Work
from tests.frameworks.wsgi_checks import (
    GUNICORN,
    IN_TIME,
    MarkedViews,
    ReleasedViews,
    bare,
    check_on_a_wsgi_server,
    deferring,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # WebOb imports `cgi`
    from pyramid.config import Configurator
    from pyramid.httpexceptions import HTTPServiceUnavailable, HTTPUnauthorized
    from pyramid.request import Request
    from pyramid.response import Response
    from pyramid.view import view_config, view_defaults

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Handler = Callable[[Request], Response]


def _made(text: str) -> Response:
    return Response(text, 201, headers={MADE_BY: "hand"})


def _in_thread(request: Request) -> Response:
    work: Work = request.registry.work
    return _made(work.in_thread(request.json_body["order"]))


@long_running
def of_request(request: Request) -> Response:
    return _in_thread(request)


@long_running
def of_two(context: object, request: Request) -> Response:
    assert context is not request
    return _in_thread(request)


@view_config(route_name="configured", request_method="POST")
@long_running
def configured(request: Request) -> Response:
    return _in_thread(request)


@view_config(route_name="rendered", renderer="json")
@long_running
def rendered(request: Request) -> dict[str, str]:
    request.response.status = 201
    request.response.headers[MADE_BY] = "hand"
    return {"made": request.registry.work.in_thread(request.json_body["order"])}


@view_config(route_name="unmarked")
def unmarked(request: Request) -> Response:
    return _in_thread(request)


def plain(request: Request) -> Response:
    return Response("plain")


@view_defaults(route_name="class")
class Views:
    def __init__(self, request: Request) -> None:
        self.request = request

    @view_config(request_method="POST")
    @long_running
    def post(self) -> Response:
        return _in_thread(self.request)

    @view_config(request_method="PUT")
    def put(self) -> Response:
        return plain(self.request)


class Callables:
    def __init__(self, context: object, request: Request) -> None:
        self.request = request

    @long_running
    def __call__(self) -> Response:
        return _in_thread(self.request)


def in_trouble(error: Trouble, request: Request) -> Response:
    return HTTPServiceUnavailable(f"in trouble: {error}")


# --- what is around them -----------------------------------------------------------------------


def tween(handler: Handler, registry: Any) -> Handler:
    """Know who may come near `/guarded`, and see what is answered."""

    def around(request: Request) -> Response:
        registry.work.step("in")
        if request.path == "/guarded" and "authorization" not in request.headers:
            return HTTPUnauthorized("who are you?")
        request.add_finished_callback(lambda _: registry.work.step("finished"))
        response = handler(request)
        response.headers["x-seen"] = request.path
        registry.work.step("out")
        return response

    return around


class Badges:
    """Permits what needs a permission, to those with a badge."""

    def permits(self, request: Request, context: object, permission: str) -> bool:
        return bool(request.headers.get("authorization") == "good")

    def identity(self, request: Request) -> None: ...

    def authenticated_userid(self, request: Request) -> None: ...

    def remember(self, request: Request, userid: str) -> list[Any]:
        return []

    forget = remember


def checking_order(view: Any) -> Any:
    def checked(context: object, request: Request) -> Response:
        if not isinstance(request.json_body.get("order"), str):
            return Response("order what?", 422)
        return view(context, request)

    return checked


def configure(work: Work) -> Configurator:
    """Return the application's configuration."""
    config = Configurator()
    config.registry.work = work
    config.set_security_policy(Badges())
    config.add_tween(f"{__name__}.tween")
    for name in ("request", "two", "configured", "rendered", "class", "callable"):
        config.add_route(name, f"/{name}")
    for name in ("guarded", "either", "unmarked", "plain"):
        config.add_route(name, f"/{name}")
    config.add_view(of_request, route_name="request")
    config.add_view(of_two, route_name="two")
    config.add_view(Callables, route_name="callable")
    config.add_view(of_request, route_name="guarded", permission="order", decorator=checking_order)
    config.add_view(plain, route_name="either", request_method="GET")
    config.add_view(of_two, route_name="either", request_method="POST", header="x-order")
    config.add_view(plain, route_name="plain", request_method="GET")
    config.scan(sys.modules[__name__])
    return config


def build(work: Work) -> WSGIApplication:
    """Return the application."""
    config = configure(work)
    config.add_exception_view(in_trouble, context=Trouble)
    app: WSGIApplication = config.make_wsgi_app()
    return app


def serve() -> WSGIApplication:
    """Return the application for a real server."""
    return ReleasedViews(build(work := Work()), work)


class TestPyramid(MarkedViews):
    on_loop: ClassVar[Paths] = ()
    in_thread: ClassVar[Paths] = (
        "/request",
        "/two",
        "/configured",
        "/rendered",
        "/class",
        "/callable",
        "/either",
    )
    refused = (
        ("/guarded", {}, document(order="tea"), 401),
        ("/guarded", {"authorization": "forged"}, document(order="tea"), 403),
        ("/guarded", {"authorization": "good"}, document(order=3), 422),
        ("/either", {}, document(order="tea"), 404),
        ("/plain", {}, b"", 404),
        ("/nowhere", {}, b"", 404),
    )
    around = ("in", "work", "out", "finished")
    trouble = 503

    def build(self, work: Work) -> WSGIApplication:
        return build(work)


@pytest.mark.asyncio
async def test_of_the_views_of_one_route_only_the_marked_one_is_deferred() -> None:
    async with deferring(build(work := Work()), work) as talk:
        assert (await talk.client.get("/either")).text == "plain"
        assert (await talk.client.put("/class")).text == "plain"


@pytest.mark.asyncio
async def test_a_view_that_is_found_by_traversal_is_deferred() -> None:
    config = configure(work := Work())
    config.add_view(of_request, name="traversed")
    async with deferring(config.make_wsgi_app(), work) as talk:
        accepted = await talk.start("/traversed")
        work.release()
        assert (await talk.result(accepted)).status_code == 201


@pytest.mark.asyncio
async def test_an_exception_without_a_view_is_raised_or_becomes_the_operation_s_500() -> None:
    app = configure(work := Work()).make_wsgi_app()
    async with bare(app, work) as talk:
        with pytest.raises(Trouble):
            await talk.post("/request", TROUBLE)
    async with deferring(app, work, **IN_TIME) as talk:
        with pytest.raises(Trouble):
            await talk.post("/unmarked", TROUBLE)
    async with deferring(app, work) as talk:
        accepted = await talk.start("/request", TROUBLE)
        response = await talk.result(accepted)
        assert response.status_code == 500
        assert response.headers["content-type"] == "application/problem+json"
        assert await talk.state(accepted) == "failed"


@pytest.mark.slow
@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_wsgi_server(GUNICORN, __name__, ("/request", "/two", "/class"))
