"""The application in Flask."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from raincheck import long_running
from raincheck.wsgi import RaincheckMiddleware
from tests.gateways.applications.handlers import Answer, Asked, Handler, in_thread, routes
from tests.gateways.applications.variants import wsgi_variants

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from raincheck.config.options import Options


def _to_response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status, answer.fields)
    for name, value in answer.cookies:
        response.set_cookie(name, value)
    return response


def _view(handler: Handler) -> Callable[[], Response]:
    def view() -> Response:
        return _to_response(in_thread(handler, Asked(request.args, request.get_data())))

    return view


def _build(options: Options) -> WSGIApplication:
    app = Flask(__name__)
    for path, handler, methods, marked in routes():
        view = _view(handler)
        app.add_url_rule(path, path, long_running(view) if marked else view, methods=methods)
    app.wsgi_app = RaincheckMiddleware(app.wsgi_app, **options)  # type: ignore[method-assign]
    return app


def app() -> WSGIApplication:
    """Return what a WSGI server is to serve."""
    return wsgi_variants(_build)
