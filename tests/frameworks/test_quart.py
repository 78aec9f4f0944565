"""Marked handlers in Quart: functions, blueprints, views, worker threads."""

from __future__ import annotations

from typing import ClassVar, cast

import pytest
from quart import Blueprint, Quart, Response, request
from quart.views import MethodView
from starlette.types import ASGIApp
from werkzeug.exceptions import Forbidden, Unauthorized

from raincheck import long_running
from raincheck.asgi import RaincheckMiddleware
from tests.frameworks.checks import MarkedHandlers, Released, check_on_a_server
from tests.frameworks.session import Paths, bare
from tests.frameworks.work import MADE_BY, Work


def _made(text: str) -> Response:
    return Response(text, 201, {MADE_BY: "hand"})


async def _order() -> str:
    return str((await request.get_json())["order"])


def check_badge() -> None:
    if request.path == "/guarded" and request.headers.get("authorization") != "good":
        raise Forbidden if "authorization" in request.headers else Unauthorized


def _add_functions(app: Quart | Blueprint, work: Work) -> None:
    @app.post("/async")
    @long_running
    async def on_loop() -> Response:
        return _made(await work.on_loop(await _order()))

    @app.post("/sync")
    @long_running
    def in_thread() -> Response:
        return _made(work.in_thread(request.headers.get("x-order", "tea")))

    @app.post("/guarded")
    @long_running
    async def guarded() -> Response:
        return _made(await work.on_loop(await _order()))

    @app.post("/unmarked")
    async def unmarked() -> Response:
        return _made(await work.on_loop(await _order()))

    @app.get("/plain")
    async def plain() -> str:
        return "plain"


def _add_views(app: Quart, work: Work) -> None:
    class Method(MethodView):
        @long_running
        async def post(self) -> Response:
            return _made(await work.on_loop(await _order()))

    class Decorated(MethodView):
        decorators = [long_running]  # noqa: RUF012 - the framework's way

        async def post(self) -> Response:
            return _made(await work.on_loop(await _order()))

    app.add_url_rule("/view/method", view_func=Method.as_view("method"))
    app.add_url_rule("/view/decorated", view_func=Decorated.as_view("decorated"))


def build(work: Work) -> Quart:
    """Return the application."""
    app = Quart(__name__)
    app.before_request(check_badge)
    _add_functions(app, work)
    _add_views(app, work)
    blueprint = Blueprint("blue", __name__, url_prefix="/blue")
    _add_functions(blueprint, work)
    app.register_blueprint(blueprint)
    return app


def serve() -> ASGIApp:
    """Return the application for a real server."""
    return Released(cast(ASGIApp, build(work := Work())), work)


class TestQuart(MarkedHandlers):
    on_loop: ClassVar[Paths] = ("/async", "/blue/async", "/view/method", "/view/decorated")
    in_thread: ClassVar[Paths] = ("/sync", "/blue/sync")
    refused = (
        ("/guarded", {}, b"{}", 401),
        ("/guarded", {"authorization": "forged"}, b"{}", 403),
        ("/plain", {}, b"", 405),
    )

    def build(self, work: Work) -> ASGIApp:
        return cast(ASGIApp, build(work))


@pytest.mark.asyncio
async def test_raincheck_may_wrap_the_application_s_own_asgi_callable() -> None:
    work = Work()
    app = build(work)
    wrapped = RaincheckMiddleware(cast(ASGIApp, app.asgi_app), store="memory:", budget=None)
    app.asgi_app = wrapped  # type: ignore[method-assign, assignment]
    async with bare(cast(ASGIApp, app), work) as session:
        accepted = await session.start("/async")
        work.release()
        assert (await session.result(accepted)).status_code == 201


@pytest.mark.slow
@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_server(__name__, ("/async", "/sync"))
