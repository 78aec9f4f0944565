"""Marked views in Flask: functions, blueprints, classes, async and streaming ones."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    g,
    request,
    session,
    stream_with_context,
)
from flask.typing import ResponseReturnValue
from flask.views import MethodView

from raincheck import long_running
from raincheck.wsgi import RaincheckMiddleware
from tests.frameworks.session import Paths, Session, assert_same_response, document, until
from tests.frameworks.work import MADE_BY, Trouble, Work
from tests.frameworks.wsgi_checks import (
    GUNICORN,
    IN_TIME,
    MarkedViews,
    ReleasedViews,
    bare,
    check_on_a_wsgi_server,
    deferring,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def _made(text: str) -> Response:
    return Response(text, 201, {MADE_BY: "hand"})


def _order() -> str:
    return str(request.get_json()["order"])


def checking_order(view: Callable[[], ResponseReturnValue]) -> Callable[[], ResponseReturnValue]:
    @functools.wraps(view)
    def checked() -> ResponseReturnValue:
        if not isinstance(request.get_json().get("order"), str):
            abort(422)
        return view()

    return checked


def _add_functions(app: Flask | Blueprint, work: Work) -> None:
    @app.post("/sync")
    @long_running
    def in_thread() -> Response:
        return _made(work.in_thread(_order()))

    @app.post("/async")
    @long_running
    async def on_loop() -> Response:
        return _made(await work.on_loop(_order()))

    @app.post("/stream")
    @long_running
    def stream() -> Response:
        def parts() -> Iterator[str]:
            for word in work.in_thread(_order()).split():
                yield f"{word} {request.path}\n"

        return Response(stream_with_context(parts()), 201, {MADE_BY: "hand"})

    @app.post("/guarded")
    @checking_order
    @long_running
    def guarded() -> Response:
        return _made(work.in_thread(_order()))


def _add_unmarked(app: Flask, work: Work) -> None:
    @app.post("/unmarked")
    def unmarked() -> Response:
        return _made(work.in_thread(_order()))

    @app.get("/plain")
    def plain() -> str:
        return "plain"


def _add_views(app: Flask, work: Work) -> None:
    class Method(MethodView):
        @long_running
        def post(self) -> Response:
            return _made(work.in_thread(_order()))

    class AsyncMethod(MethodView):
        @long_running
        async def post(self) -> Response:
            return _made(await work.on_loop(_order()))

    class Decorated(MethodView):
        decorators = [long_running]  # noqa: RUF012 - the framework's way

        def post(self) -> Response:
            return _made(work.in_thread(_order()))

    app.add_url_rule("/view/method", view_func=Method.as_view("method"))
    app.add_url_rule("/view/async", view_func=AsyncMethod.as_view("async_method"))
    app.add_url_rule("/view/decorated", view_func=Decorated.as_view("decorated"))


def check_badge() -> None:
    badge = request.headers.get("authorization")
    if request.path == "/guarded" and badge != "good":
        abort(403 if badge else 401)


def _add_surroundings(app: Flask, work: Work) -> None:
    @app.after_request
    def after(response: Response) -> Response:
        work.step("after_request")
        response.headers["x-seen"] = request.path
        return response

    @app.errorhandler(Trouble)
    def in_trouble(error: Trouble) -> ResponseReturnValue:
        return f"in trouble: {error}", 503

    app.before_request(lambda: work.step("before_request"))
    app.before_request(check_badge)
    app.teardown_request(lambda error: work.step("teardown_request"))
    app.teardown_appcontext(lambda error: work.step("teardown_appcontext"))


def build(work: Work) -> Flask:
    """Return the application."""
    app = Flask(__name__, static_folder=None)
    app.secret_key = "for tests"  # noqa: S105
    blueprint = Blueprint("blue", __name__, url_prefix="/blue")
    _add_functions(blueprint, work)
    _add_functions(app, work)
    _add_unmarked(app, work)
    _add_views(app, work)
    _add_surroundings(app, work)
    app.register_blueprint(blueprint)
    return app


def serve() -> WSGIApplication:
    """Return the application for a real server."""
    return ReleasedViews(build(work := Work()), work)


class TestFlask(MarkedViews):
    on_loop: ClassVar[Paths] = ("/async", "/blue/async", "/view/async")
    in_thread: ClassVar[Paths] = (
        "/sync",
        "/blue/sync",
        "/view/method",
        "/view/decorated",
        "/stream",
    )
    refused = (
        ("/guarded", {}, document(order="tea"), 401),
        ("/guarded", {"authorization": "forged"}, document(order="tea"), 403),
        (
            "/guarded",
            {"authorization": "good", "content-type": "application/json"},
            document(order=3),
            422,
        ),
        ("/guarded", {"authorization": "good"}, b"no JSON", 415),
        ("/plain", {}, b"", 405),
        ("/nowhere", {}, b"", 404),
    )
    around = (
        *("before_request", "work", "after_request"),
        *("teardown_request", "teardown_appcontext"),
    )
    trouble = 503

    def build(self, work: Work) -> WSGIApplication:
        return build(work)


# --- what belongs to a request -----------------------------------------------------------------


def unmark(app: Flask, endpoint: str) -> Flask:
    app.view_functions[endpoint] = inspect.unwrap(app.view_functions[endpoint])
    return app


async def follow_stream(session: AbstractAsyncContextManager[Session], least: int = 1) -> list[str]:
    """Read `/stream` and return at least so many of its steps."""
    async with session as talk:
        talk.work.release()
        response = await talk.post("/stream")
        if response.status_code == 202:
            response = await talk.result(response)
        assert response.text == "made /stream\nof /stream\ntea /stream\n"
        await until(lambda: len(talk.work.own_steps) >= least)
        return talk.work.own_steps


@pytest.mark.asyncio
async def test_a_stream_keeps_its_request_and_ends_as_without_raincheck() -> None:
    steps = await follow_stream(bare(build(work := Work()), work))
    assert steps.index("after_request") < steps.index("work") < len(steps) - 1
    in_time = deferring(unmark(build(work := Work()), "stream"), work, **IN_TIME)
    assert await follow_stream(in_time, len(steps)) == steps
    deferred = deferring(build(work := Work()), work)
    assert await follow_stream(deferred, len(steps)) == steps


def remembering() -> tuple[Flask, dict[str, Any]]:
    """Return an application that keeps things in `g` and the session, and what it has seen."""
    app, seen = build(Work()), dict[str, Any]()

    @app.before_request
    def before() -> None:
        g.thread = threading.get_ident()

    @app.get("/remember/<what>")
    @long_running
    def remember(what: str) -> Response:
        seen.update(same_thread=g.thread == threading.get_ident(), before=session.get("what"))
        seen.update(app=current_app.name, endpoint=request.endpoint)
        session["what"] = what
        return Response(what)

    return app, seen


EXPECTED = {"same_thread": True, "app": __name__, "endpoint": "remember"}


@pytest.mark.asyncio
@pytest.mark.parametrize("options", [{}, {"keep_cookies": True}, {"exclude": ["/**"]}], ids=str)
async def test_a_view_has_its_session_and_its_g(options: dict[str, Any]) -> None:
    app, seen = remembering()
    async with deferring(app, Work(), **options) as talk:
        for what, before in (("tea", None), ("coffee", "tea" if options else None)):
            response = await talk.client.get(f"/remember/{what}")
            if "exclude" not in options:
                response = await talk.result(response)
            assert response.text == what
            assert ("set-cookie" in response.headers) is bool(options)
            assert seen == {**EXPECTED, "before": before}


@pytest.mark.asyncio
async def test_a_session_that_changes_within_the_budget_is_set() -> None:
    app, seen = remembering()
    async with deferring(unmark(app, "remember"), Work(), **IN_TIME) as talk:
        await talk.client.get("/remember/tea")
        assert (await talk.client.get("/remember/coffee")).text == "coffee"
    assert seen == {**EXPECTED, "before": "tea"}


# --- placing it --------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_raincheck_may_wrap_the_application_s_own_wsgi_callable() -> None:
    app = build(work := Work())
    app.wsgi_app = RaincheckMiddleware(app.wsgi_app, store="memory:", budget=None)  # type: ignore[method-assign]
    async with bare(app, work) as talk:
        accepted = await talk.start("/sync")
        work.release()
        assert (await talk.result(accepted)).status_code == 201


@pytest.mark.asyncio
async def test_an_error_that_nobody_handles_is_answered_as_flask_does() -> None:
    async def get(talk: Any) -> Any:
        response = await talk.client.get("/broken")
        return await talk.result(response) if response.status_code == 202 else response

    app = build(Work())
    app.add_url_rule("/broken", view_func=long_running(lambda: str(1 // 0)), endpoint="broken")
    async with bare(app, Work()) as talk:
        direct = await get(talk)
    async with deferring(app, Work()) as talk:
        assert_same_response(await get(talk), direct)
    assert direct.status_code == 500


@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_wsgi_server(GUNICORN, __name__, ("/async", "/sync", "/view/method"))
