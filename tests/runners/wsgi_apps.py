"""Applications of WSGI frameworks whose handlers are all marked.

They have error handlers that nobody wants to be called, and hooks that all are to run.
"""

# mypy: disable-error-code="import-untyped, no-any-unimported, untyped-decorator, misc"

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import bottle
import falcon
import flask_restx
import flask_smorest
from flask import Blueprint, Flask
from flask.views import MethodView
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request as WerkzeugRequest

from tests.runners.handing import BODY, Steps, handed_over, loud

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # WebOb imports `cgi`
    from pyramid.config import Configurator

FAILED = "the handler has failed"


def _with_hooks(app: Flask, steps: Steps) -> Flask:
    @app.get("/fails")
    def fails() -> str:
        raise ValueError(FAILED)

    @app.after_request
    def after(response: Any) -> Any:
        steps.append(f"after_request: {response.status_code}")
        return response

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        steps.append(f"teardown: {error}")

    return app


def flask(steps: Steps, traps: bool = False) -> Flask:
    """Functions, sync and async, and a class; of the application and of a blueprint."""

    @handed_over
    def sync() -> str:
        steps.append(BODY)
        return BODY

    @handed_over
    async def on_loop() -> str:
        steps.append(BODY)
        return BODY

    class View(MethodView):
        @handed_over
        def get(self) -> str:
            steps.append(BODY)
            return BODY

    app, blueprint = Flask("shop"), Blueprint("part", __name__, url_prefix="/part")
    app.config["TRAP_HTTP_EXCEPTIONS"] = traps
    for place in (app, blueprint):
        place.add_url_rule("/sync", "sync", sync)
        place.add_url_rule("/async", "async", on_loop)
        place.add_url_rule("/class", view_func=View.as_view("class"))
        for error in (HTTPException, Exception):
            place.register_error_handler(error, loud(steps))
    app.register_blueprint(blueprint)
    return _with_hooks(app, steps)


def restx(steps: Steps) -> Flask:
    """A resource of Flask-RESTX, which has error handlers beside Flask's."""
    app = Flask("shop")
    api = flask_restx.Api(app)
    namespace = api.namespace("part")

    @api.route("/class")
    @namespace.route("/class")
    class Resource(flask_restx.Resource):
        @handed_over
        def get(self) -> str:
            steps.append(BODY)
            return BODY

    api.errorhandler(Exception)(loud(steps))
    namespace.errorhandler(HTTPException)(loud(steps))
    return _with_hooks(app, steps)


def smorest(steps: Steps) -> Flask:
    """A class of Flask-Smorest."""
    app = Flask("shop")
    app.config |= {"API_TITLE": "shop", "API_VERSION": "1", "OPENAPI_VERSION": "3.0.2"}
    blueprint = flask_smorest.Blueprint("part", "part")

    @blueprint.route("/class")
    class View(MethodView):
        @blueprint.response(201)
        @handed_over
        def get(self) -> str:
            steps.append(BODY)
            return BODY

    flask_smorest.Api(app).register_blueprint(blueprint)
    return _with_hooks(app, steps)


def werkzeug(steps: Steps) -> Any:
    """What is written with Werkzeug alone."""

    @handed_over
    def handle(request: WerkzeugRequest) -> Any:
        steps.append(BODY)

    @WerkzeugRequest.application
    def app(request: WerkzeugRequest) -> Any:
        if request.path == "/fails":
            raise ValueError(FAILED)
        return handle(request)

    return app


class FalconHooks:
    """Middleware of Falcon."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def process_response(self, req: Any, resp: Any, resource: Any, succeeded: bool) -> None:
        self._steps.append(f"process_response: {resp.status_code} {succeeded}")


def falcon_app(steps: Steps) -> falcon.App[Any, Any]:
    """A resource below a handler of all errors."""

    class Resource:
        @handed_over
        def on_get(self, req: Any, resp: Any) -> None:
            steps.append(BODY)

    class Fails:
        def on_get(self, req: Any, resp: Any) -> None:
            raise ValueError(FAILED)

    app = falcon.App(middleware=[FalconHooks(steps)])
    app.add_route("/class", Resource())
    app.add_route("/fails", Fails())
    for error in (falcon.HTTPError, Exception):
        app.add_error_handler(error, loud(steps))
    return app


def bottle_app(steps: Steps) -> bottle.Bottle:
    """A function below a plugin that rolls back."""
    app = bottle.Bottle()

    @app.get("/sync")
    @handed_over
    def sync() -> str:
        steps.append(BODY)
        return BODY

    @app.get("/fails")
    def fails() -> str:
        raise ValueError(FAILED)

    @app.hook("after_request")
    def after() -> None:
        steps.append("after_request")

    @app.install
    def plugin(callback: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return callback(*args, **kwargs)
            except bottle.HTTPResponse:
                steps.append("rollback")
                raise

        return call

    for status in (202, 500):
        app.error(status)(loud(steps))
    return app


def _tween(steps: Steps) -> Any:
    def factory(handler: Any, registry: Any) -> Any:
        def tween(request: Any) -> Any:
            response = handler(request)
            steps.append(f"tween: {response.status_code}")
            return response

        return tween

    return factory


def pyramid(steps: Steps) -> Any:
    """A function and classes, of which one has a method without a request."""

    @handed_over
    def sync(request: Any) -> None:
        steps.append(BODY)

    class View:
        def __init__(self, request: Any) -> None:
            self.request = request

        @handed_over
        def get(self) -> None:
            steps.append(BODY)

    class Other:
        def __init__(self, context: Any, request: Any) -> None:
            self.req = request

        @handed_over
        def get(self) -> None:
            steps.append(BODY)

    def fails(request: Any) -> None:
        raise ValueError(FAILED)

    config = Configurator()
    for name, view, attr in (
        *(("sync", sync, None), ("class", View, "get"), ("other", Other, "get")),
        ("fails", fails, None),
    ):
        config.add_route(name, f"/{name}")
        config.add_view(view, attr=attr, route_name=name)
    config.add_exception_view(loud(steps), context=Exception)
    config.registry.tween = _tween(steps)
    config.add_tween(f"{__name__}.pyramid_tween")
    return config.make_wsgi_app()


def pyramid_tween(handler: Any, registry: Any) -> Any:
    """Return the tween of the application; Pyramid takes only names."""
    return registry.tween(handler, registry)


APPLICATIONS: dict[str, Callable[[Steps], Any]] = {
    "flask": flask,
    "flask-trapping": lambda steps: flask(steps, traps=True),
    "flask-restx": restx,
    "flask-smorest": smorest,
    "werkzeug": werkzeug,
    "falcon": falcon_app,
    "bottle": bottle_app,
    "pyramid": pyramid,
}
TORN_DOWN = ["after_request: 202", "teardown: None"]
EXPECTED: dict[tuple[str, str], Steps] = {
    **{
        (app, f"{part}/{path}"): TORN_DOWN
        for app in ("flask", "flask-trapping")
        for part in ("", "/part")
        for path in ("sync", "async", "class")
    },
    ("flask-restx", "/class"): TORN_DOWN,
    ("flask-restx", "/part/class"): TORN_DOWN,
    ("flask-smorest", "/class"): TORN_DOWN,
    ("werkzeug", "/"): [],
    ("falcon", "/class"): ["process_response: 202 False"],
    ("bottle", "/sync"): ["rollback", "after_request"],
    **{("pyramid", f"/{path}"): ["tween: 202"] for path in ("sync", "class", "other")},
}
FAILING = ["flask", "flask-smorest", "falcon", "bottle", "pyramid"]  # with a path that fails
