"""What the start-up check complains about, in every framework; nothing is run for it."""

# mypy: disable-error-code="import-untyped, untyped-decorator, misc"

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import bottle
import falcon
import fastapi
import flask
import litestar
import pytest
import quart
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.views import View
from flask.views import MethodView
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from raincheck import long_running
from raincheck.asgi import RaincheckMiddleware
from raincheck.handler import Marking
from raincheck.inspection.check import Report, check
from raincheck.inspection.complaint import Complaint
from raincheck.wsgi import RaincheckMiddleware as WSGIMiddleware
from tests.support.django_settings import configure

configure()

from django.contrib.auth.decorators import login_required, permission_required  # noqa: E402
from django.contrib.auth.mixins import LoginRequiredMixin  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.request import Request as RestRequest  # noqa: E402
from rest_framework.response import Response as RestResponse  # noqa: E402
from rest_framework.viewsets import ModelViewSet  # noqa: E402


def report(app: object) -> Report:
    found = check(app)
    assert found is not None
    return found


def codes(app: object) -> list[str]:
    return [complaint.code for complaint in report(app).complaints]


def no_effect(app: object) -> list[str]:
    """Return the routes of handlers whose mark has no effect."""
    found = [each for each in report(app).complaints if each.code == "no-effect"]
    return [complaint.where.partition(" (")[0] for complaint in found]


# --- marks without effect ----------------------------------------------------------------------


@pytest.mark.parametrize("framework", [flask.Flask, quart.Quart])
def test_a_mark_above_the_route_in_flask_and_quart(framework: Callable[..., Any]) -> None:
    app = framework(__name__, static_folder=None)

    @long_running
    @app.post("/above/<int:number>")
    def above(number: int) -> str:
        return ""

    @app.post("/below")
    @long_running
    def below() -> str:
        return ""

    assert no_effect(app) == ["POST /above/<int:number>"]
    assert report(app).handlers == 2
    assert report(app).marked == 1


def test_a_mark_above_the_route_in_bottle() -> None:
    app = bottle.Bottle()

    @long_running
    @app.post("/above")
    def above() -> str:
        return ""

    assert no_effect(app) == ["POST /above"]


def test_a_mark_above_the_route_in_fastapi() -> None:
    app = fastapi.FastAPI(openapi_url=None)
    router = fastapi.APIRouter()

    @long_running
    @router.post("/above")
    async def above() -> None: ...

    app.include_router(router, prefix="/v1")
    assert no_effect(app) == ["POST /v1/above"]


def test_a_mark_above_the_route_in_litestar_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="directly above the function"):

        @long_running
        @litestar.get("/above")
        async def above() -> None: ...


def test_a_marked_function_whose_unmarked_self_was_registered() -> None:
    class Report:
        def on_post(self, request: falcon.Request, response: falcon.Response) -> None: ...

    long_running(Report.on_post)
    app: falcon.App[Any, Any] = falcon.App()
    app.add_route("/report", Report())
    assert no_effect(app) == ["POST /report"]


def test_a_function_may_be_registered_with_its_mark_and_without() -> None:
    app = flask.Flask(__name__, static_folder=None)

    def view() -> str:
        return ""

    app.add_url_rule("/fast", "fast", view)
    app.add_url_rule("/slow", "slow", long_running(view))
    assert no_effect(app) == []


def test_one_function_is_complained_about_once() -> None:
    app = flask.Flask(__name__, static_folder=None)

    @long_running
    @app.get("/here")
    @app.route("/there", methods=["GET", "POST"])
    def view() -> str:
        return ""

    assert len(no_effect(app)) == 1


def test_a_complaint_says_what_where_and_what_to_do() -> None:
    app = flask.Flask(__name__, static_folder=None)

    @long_running
    @app.post("/above")
    def above() -> str:
        return ""

    (complaint,) = report(app).complaints
    line = inspect_line(above)
    assert str(complaint) == (
        f"POST /above (tests/handlers/test_check.py:{line}): @long_running has no effect on "
        f"{above.__qualname__}(): it stands above the framework's decorator, which has registered "
        "the function without it. Put it directly above the function, below all other decorators."
    )


def inspect_line(function: Any) -> int:
    return int(function.__wrapped__.__code__.co_firstlineno)


# --- marks before authentication ---------------------------------------------------------------


def extension(name: str) -> Any:
    """Return a decorator as an extension of that name has it."""
    module = types.ModuleType(name)
    code = (
        "import functools\n"
        "def guard(view):\n"
        "    @functools.wraps(view)\n"
        "    def checked(*args, **kwargs): return view(*args, **kwargs)\n"
        "    return checked\n"
    )
    exec(code, module.__dict__)  # noqa: S102 - written above
    return module.guard


GUARDS = ("flask_login.utils", "flask_httpauth", "flask_jwt_extended.view_decorators")


@pytest.mark.parametrize("module", GUARDS)
def test_a_mark_above_an_extension_of_flask_that_asks_who_it_is(module: str) -> None:
    app = flask.Flask(__name__, static_folder=None)
    guard = extension(module)

    @app.post("/above")
    @long_running
    @guard
    def above() -> str:
        return ""

    @app.post("/below")
    @guard
    @guard
    @long_running
    def below() -> str:
        return ""

    class Views(MethodView):
        decorators: ClassVar[list[Any]] = [guard, long_running]

        def post(self) -> str:
            return ""

    app.add_url_rule("/class", view_func=Views.as_view("class"))
    found = [each for each in report(app).complaints if each.code == "before-authentication"]
    assert [complaint.where.split(" (")[0] for complaint in found] == ["POST /above", "POST /class"]
    assert module in found[0].what


def test_a_mark_above_one_that_was_below_authentication() -> None:
    app = flask.Flask(__name__, static_folder=None)
    view = long_running(extension("flask_login")(long_running(lambda: "")))
    app.add_url_rule("/twice", "twice", view)
    assert "before-authentication" in codes(app)


def test_an_unknown_decorator_is_not_taken_for_authentication() -> None:
    app = flask.Flask(__name__, static_folder=None)
    app.add_url_rule("/", "view", long_running(extension("flask_caching")(lambda: "")))
    assert "before-authentication" not in codes(app)


def test_a_mark_above_what_starlette_requires() -> None:
    @long_running
    @requires("authenticated")
    async def above(request: Request) -> Response:
        return Response()

    @requires("authenticated")
    @long_running
    async def below(request: Request) -> Response:
        return Response()

    app = Starlette(routes=[Route("/above", above), Route("/below", below)])
    app.add_middleware(RaincheckMiddleware, store="memory:")
    (complaint,) = report(app).complaints
    assert complaint.code == "before-authentication"
    assert complaint.where.startswith("GET /above (tests/handlers/test_check.py:")


def test_a_mark_above_a_hook_of_falcon() -> None:
    def hook(*args: Any) -> None: ...

    class Report:
        @long_running
        @falcon.before(hook)
        def on_post(self, request: falcon.Request, response: falcon.Response) -> None: ...

        @falcon.before(hook)
        @long_running
        def on_put(self, request: falcon.Request, response: falcon.Response) -> None: ...

        @long_running
        @falcon.after(hook)
        def on_get(self, request: falcon.Request, response: falcon.Response) -> None: ...

    app: falcon.App[Any, Any] = falcon.App()
    app.add_route("/report", Report())
    found = [each for each in report(app).complaints if each.code == "before-authentication"]
    assert [complaint.where.split(" (")[0] for complaint in found] == ["POST /report"]


# --- Django ------------------------------------------------------------------------------------

OURS = "raincheck.django.RaincheckMiddleware"


@long_running
@login_required
def above_login(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@login_required
@permission_required("shop.order")
@long_running
def below_login(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@long_running
@api_view(["POST"])
def above_api_view(request: RestRequest) -> RestResponse:
    return RestResponse()


@api_view(["POST"])
@long_running
def below_api_view(request: RestRequest) -> RestResponse:
    return RestResponse()


class Private(LoginRequiredMixin, View):
    @long_running
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class Unmarked(LoginRequiredMixin, View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


@method_decorator(long_running, name="dispatch")
class Dispatching(LoginRequiredMixin, View): ...


@method_decorator(login_required, name="dispatch")
@method_decorator(long_running, name="post")
class Guarded(Unmarked): ...


@method_decorator(long_running, name="create")
class Orders(ModelViewSet): ...


GOOD = {
    "below-login": below_login,
    "below-api-view": below_api_view,
    "private": Private.as_view(),
    "guarded": Guarded.as_view(),
    "orders": Orders.as_view({"post": "create"}),
}
BAD = {
    "above-login": above_login,
    "above-api-view": above_api_view,
    "around-the-class": long_running(Unmarked.as_view()),
    "dispatching": Dispatching.as_view(),
}
urlpatterns: list[URLPattern] = [path(name, view) for name, view in {**GOOD, **BAD}.items()]


@pytest.fixture
def _project() -> Iterator[None]:
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[OURS]):
        yield


def unloaded(handler: Callable[[], Any]) -> Any:
    """Return a handler that was made with no middleware, which another test is about."""
    with override_settings(MIDDLEWARE=[]):
        return handler()


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("handler", [get_wsgi_application, get_asgi_application])
def test_marks_above_what_asks_who_it_is_in_django(handler: Callable[[], Any]) -> None:
    found = report(unloaded(handler))
    assert [each.where.split(" (")[0] for each in found.complaints] == [f"/{name}" for name in BAD]
    assert {each.code for each in found.complaints} == {"before-authentication"}
    assert found.marked == found.handlers == len(urlpatterns)


@pytest.mark.usefixtures("_project")
def test_a_django_project_without_the_middleware() -> None:
    with override_settings(MIDDLEWARE=["django.middleware.common.CommonMiddleware"]):
        assert "no-middleware" in codes(get_wsgi_application())
        assert "no-middleware" not in codes(
            RaincheckMiddleware(get_asgi_application(), store="memory:")
        )


# --- where the middleware is -------------------------------------------------------------------


@long_running
async def marked(request: Request) -> Response:
    return Response()


class Own(RaincheckMiddleware):
    """A middleware of theirs that derives from ours."""


def inner() -> Starlette:
    return Starlette(routes=[Route("/marked", marked)])


def with_middleware(cls: Any) -> Starlette:
    app = inner()
    app.add_middleware(GZipMiddleware)
    app.add_middleware(cls, store="memory:")
    return app


SERVED: dict[str, Callable[[], object]] = {
    "added": lambda: with_middleware(RaincheckMiddleware),
    "derived": lambda: with_middleware(Own),
    "around": lambda: RaincheckMiddleware(inner(), store="memory:"),
    "further out": lambda: CORSMiddleware(RaincheckMiddleware(inner(), store="memory:")),
    "in a mounted application": lambda: Starlette(
        routes=[Mount("/", app=with_middleware(RaincheckMiddleware))]
    ),
    "around a mounted application": lambda: Starlette(
        routes=[Mount("/", app=CORSMiddleware(RaincheckMiddleware(inner(), store="memory:")))]
    ),
    "of a mount": lambda: Starlette(
        routes=[
            Mount(
                "/",
                app=inner(),
                middleware=[Middleware(RaincheckMiddleware, store="memory:")],
            )
        ]
    ),
    "flask": lambda: flask_app(served=True),
    "dispatched": lambda: DispatcherMiddleware(
        flask_app(served=False), {"/api": flask_app(served=True)}
    ),
    "quart": lambda: quart_app(),
}


def flask_app(*, served: bool) -> flask.Flask:
    app = flask.Flask(__name__, static_folder=None)
    app.add_url_rule("/", "marked", long_running(lambda: ""))
    if served:
        app.wsgi_app = WSGIMiddleware(app.wsgi_app, store="memory:")  # type: ignore[method-assign]
    return app


def quart_app() -> quart.Quart:
    app = quart.Quart(__name__, static_folder=None)
    app.add_url_rule("/", "marked", long_running(lambda: ""))
    app.asgi_app = RaincheckMiddleware(app.asgi_app, store="memory:")  # type: ignore[method-assign, assignment, arg-type]
    return app


@pytest.mark.parametrize("name", SERVED)
def test_the_middleware_is_found_wherever_it_is(name: str) -> None:
    found = report(SERVED[name]())
    assert found.complaints == []
    assert found.marked > 0


UNSERVED: dict[str, Callable[[], object]] = {
    "starlette": inner,
    "other middleware": lambda: GZipMiddleware(inner()),
    "mounted": lambda: Starlette(routes=[Mount("/", app=inner())]),
    "flask": lambda: flask_app(served=False),
}


@pytest.mark.parametrize("name", UNSERVED)
def test_marks_without_any_middleware(name: str) -> None:
    (complaint,) = report(UNSERVED[name]()).complaints
    assert complaint == Complaint(
        "no-middleware",
        "application",
        "1 handler is marked, but no RaincheckMiddleware is around it",
        "Add it to the application, or check the object that your server is given",
    )


def test_an_application_without_marks_needs_no_middleware() -> None:
    found = report(Starlette())
    assert str(found) == "0 handlers, 0 marked, 0 problems"


def test_an_unknown_framework_has_no_report() -> None:
    assert check(functools.partial(print)) is None


SHARED = "redis://localhost:1/0"


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("told", ["as an option", "by the environment"])
def test_a_service_without_a_name_on_a_store_that_others_may_use_is_complained_about(
    monkeypatch: pytest.MonkeyPatch, told: str, named: bool
) -> None:
    options: dict[str, Any] = {"application": "shop"} if named else {}
    if told == "as an option":
        options["store"] = SHARED
    else:
        monkeypatch.setenv("RAINCHECK_STORE", SHARED)
    added = Starlette(middleware=[Middleware(RaincheckMiddleware, **options)])
    around = flask.Flask(__name__)
    around.wsgi_app = WSGIMiddleware(around.wsgi_app, **options)  # type: ignore[method-assign]
    for app in (added, RaincheckMiddleware(Starlette(), **options), around):
        assert ("no-name" in codes(app)) is not named


@pytest.mark.parametrize("url", [None, "memory:"])
def test_a_store_of_its_own_needs_no_name(url: str | None) -> None:
    assert codes(RaincheckMiddleware(Starlette(), store=url)) == []


@pytest.mark.parametrize(
    ("options", "is_hidden"),
    [
        ({}, False),
        ({"runners": {"/reports/**": "workers"}}, True),
        ({"workers": {"workers": print}, "application": "shop"}, True),
        ({"runners": {"/reports/**": "workers"}, "store": "sqlite:///srv/operations.db"}, False),
    ],
)
def test_handlers_for_workers_in_a_store_that_those_may_not_find_are_complained_about(
    options: dict[str, Any], is_hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAINCHECK_STORE", raising=False)
    added = Starlette(middleware=[Middleware(RaincheckMiddleware, **options)])
    for app in (added, RaincheckMiddleware(Starlette(), **options)):
        assert ("no-store" in codes(app)) is is_hidden
    monkeypatch.setenv("RAINCHECK_STORE", "memory:")
    assert "no-store" not in codes(added)


def test_marks_for_workers_are_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAINCHECK_STORE", raising=False)
    marked = Marking(queue="workers")
    monkeypatch.setattr("raincheck.handler.marking._known_markings", {marked})
    assert "no-store" in codes(RaincheckMiddleware(Starlette()))
