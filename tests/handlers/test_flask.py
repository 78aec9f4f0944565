"""Marked views of Flask: functions, blueprints, classes, async; and of several applications."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import flask
from flask.views import MethodView, View
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from raincheck import long_running
from raincheck.inspection import marked_requests
from tests.handlers.checks import RAN, Case, FindsHandlers, WSGIApp, environ

app = flask.Flask(__name__)
shop = flask.Blueprint("shop", __name__, url_prefix="/shop")


def ran(name: str) -> str:
    RAN.append(name)
    return name


def noted(view: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return wrapper


def forgetful(view: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return wrapper


@app.get("/plain/<int:number>")
def plain(number: int) -> str:
    return ran("plain")


@app.post("/marked/<int:number>")
@long_running
def marked(number: int) -> str:
    return ran("marked")


@app.post("/async")
@long_running
async def in_loop() -> str:
    return ran("in_loop")


@app.post("/noted")
@noted
@long_running
def below() -> str:
    return ran("below")


@app.post("/forgetful", endpoint="forgetful")
@forgetful
@long_running
def hidden() -> str:
    return ran("hidden")


@long_running
@app.post("/above")
def above() -> str:
    return ran("above")


@app.get("/bücher/<name>")
@long_running
def books(name: str) -> str:
    return ran("books")


@app.get("/slash/")
@long_running
def slash() -> str:
    return ran("slash")


@shop.post("/order")
@long_running
def order() -> str:
    return ran("order")


class ByMethod(MethodView):
    @long_running
    def post(self) -> str:
        return ran("post")

    def put(self) -> str:
        return ran("put")


class Decorated(MethodView):
    decorators: ClassVar[list[Any]] = [noted, long_running]

    def post(self) -> str:
        return ran("post")


class Dispatching(View):
    methods: ClassVar[list[str]] = ["POST"]
    init_every_request = False

    @long_running
    def dispatch_request(self) -> str:
        return ran("dispatch_request")


class PlainView(View):
    methods: ClassVar[list[str]] = ["POST"]

    def dispatch_request(self) -> str:
        return ran("dispatch_request")


shop.add_url_rule("/method", view_func=ByMethod.as_view("method"))
shop.add_url_rule("/decorated", view_func=Decorated.as_view("decorated"))
shop.add_url_rule("/dispatching", view_func=Dispatching.as_view("dispatching"))
shop.add_url_rule("/view", view_func=PlainView.as_view("view"))
app.register_blueprint(shop)
app.register_blueprint(shop, url_prefix="/again", name="again")


class TestFlask(FindsHandlers):
    app = app
    cases = (
        Case("GET", "/plain/1", False),
        Case("POST", "/marked/1", True),
        Case("POST", "/marked/one", False),
        Case("GET", "/marked/1", False),
        Case("POST", "/async", True),
        Case("POST", "/noted", True),
        Case("POST", "/forgetful", True),
        Case("POST", "/above", False),
        Case("GET", "/bücher/ä", True),
        Case("GET", "/slash/", True),
        Case("GET", "/slash", False),
        Case("GET", "/none", False),
        Case("GET", "", False),
        Case("POST", "/shop/order", True),
        Case("POST", "/again/order", True),
        Case("POST", "/shop/method", True),
        Case("PUT", "/shop/method", False),
        Case("POST", "/shop/decorated", True),
        Case("POST", "/shop/dispatching", True),
        Case("POST", "/shop/view", False),
        Case("GET", "/marked/1" + "0" * 300, False),
        Case("POST", "/marked/1" + "0" * 300, True),
    )


class TestBehindMiddleware(FindsHandlers):
    app: ClassVar[WSGIApp] = ProxyFix(app.wsgi_app)
    cases = (Case("POST", "/marked/1", True), Case("GET", "/plain/1", False))


class TestDispatched(FindsHandlers):
    app: ClassVar[WSGIApp] = DispatcherMiddleware(
        flask.Flask("front"), {"/api": app, "/api/v2": ProxyFix(app), "/other": lambda *_: []}
    )
    cases = (
        Case("POST", "/api/marked/1", True),
        Case("GET", "/api/plain/1", False),
        Case("POST", "/api/v2/shop/order", True),
        Case("POST", "/marked/1", False),
        Case("POST", "/apis/marked/1", False),
        Case("POST", "/other/marked/1", True, unless="nobody knows what this application is"),
    )


def test_the_path_below_which_it_is_mounted_does_not_matter() -> None:
    is_marked = marked_requests(app)
    assert is_marked is not None
    assert is_marked(environ("POST", "/marked/1", SCRIPT_NAME="/api"))
    assert not is_marked(environ("POST", "/api/marked/1", SCRIPT_NAME="/api"))


def test_a_view_that_is_registered_later_is_found() -> None:
    late = flask.Flask("late")
    is_marked = marked_requests(late.wsgi_app)
    assert is_marked is not None
    late.add_url_rule("/late", view_func=long_running(lambda: ran("late")))
    assert is_marked(environ("GET", "/late"))


def test_hosts_are_told_apart_where_they_decide() -> None:
    by_host = flask.Flask("hosts", host_matching=True, static_host="static.example")
    by_host.add_url_rule("/", "a", long_running(lambda: ran("a")), host="a.example")
    by_host.add_url_rule("/", "b", lambda: ran("b"), host="b.example")
    is_marked = marked_requests(by_host)
    assert is_marked is not None
    for _ in range(2):
        assert is_marked(environ("GET", "/", HTTP_HOST="a.example"))
        assert not is_marked(environ("GET", "/", HTTP_HOST="b.example"))


def test_subdomains_are_told_apart_where_they_decide() -> None:
    by_domain = flask.Flask("domains", subdomain_matching=True)
    by_domain.config["SERVER_NAME"] = "example.org"
    by_domain.add_url_rule("/", "a", long_running(lambda: ran("a")), subdomain="a")
    by_domain.add_url_rule("/", "b", lambda: ran("b"), subdomain="b")
    is_marked = marked_requests(by_domain)
    assert is_marked is not None
    for _ in range(2):
        assert is_marked(environ("GET", "/", HTTP_HOST="a.example.org"))
        assert not is_marked(environ("GET", "/", HTTP_HOST="b.example.org"))
