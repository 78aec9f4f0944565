"""Flask's ways to say it: an extension, and the status monitor as a blueprint.

    Raincheck(app, budget=2.0)  # or: raincheck = Raincheck(); later: raincheck.init_app(app)

    monitor = monitor_blueprint()  # behind the application's own authentication
    monitor.before_request(require_login)
    app.register_blueprint(monitor, url_prefix="/pending")
    Raincheck(app, status_url=status_url(app))

With the blueprint the middleware intercepts nothing, and the links it gives follow the blueprint.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Unpack

from flask import Blueprint, Flask, current_app, has_request_context, request
from werkzeug.routing import BuildError
from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from raincheck.config.options import Options
from raincheck.errors import ConfigurationError
from raincheck.handler import REQUEST
from raincheck.http.urls import encode_path
from raincheck.monitor.links import Resource, looking_at
from raincheck.wsgi import MOUNTED, RaincheckMiddleware
from raincheck.wsgi.hooks import added, without_body

__all__ = ["Raincheck", "monitor_blueprint", "status_url"]

NAME = "raincheck"
# All of them: the monitor itself knows what to say to the wrong ones.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# Whether a blueprint of a subdomain is of another host.
_LOOKED_AT = ("HTTP_HOST", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme")
_CONFIG = "RAINCHECK_"
_LAYERS = 20


class Raincheck:
    """The middleware as an extension, for factories and for an application that is there already.

    Args:
        app: The application; default: `init_app` is told.
        options: See `config.options.Settings` for each, with unit and default. They win over
            `app.config`, where the same names are in capitals, after `RAINCHECK_`. An `owner`
            without arguments is called in the context of a request:
            `lambda: current_user.get_id()`.

    Raises:
        ConfigurationError: An option is unknown, has a wrong value, or contradicts another.
    """

    def __init__(self, app: Flask | None = None, **options: Unpack[Options]) -> None:
        self._options = options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Put the middleware around an application, inside of what is around it already.

        Raises:
            ConfigurationError: As above, or it is around the application already.
        """
        if NAME in app.extensions:
            raise ConfigurationError(f"Raincheck is around {app!r} already; call init_app once")
        options: dict[str, Any] = {**_configured(app.config), **self._options}
        if (owner := options.get("owner")) is not None and _is_called_without(owner):
            options["owner"] = _in_context(app, owner)
        holder, name = _innermost(app)
        middleware = RaincheckMiddleware(getattr(holder, name), **options)
        setattr(holder, name, middleware)
        app.extensions[NAME] = middleware


def _configured(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key.removeprefix(_CONFIG).lower(): value
        for key, value in config.items()
        if key.startswith(_CONFIG)
    }


def _innermost(app: Flask) -> tuple[Any, str]:
    """Return where `app.wsgi_app` is kept: by the application, or the last one around it.

    What is around it, such as ProxyFix, has to be outside: URLs are made of what it has found out.
    """
    holder, name = app, "wsgi_app"
    for _ in range(_LAYERS):
        inner = getattr(holder, name)
        if getattr(inner, "__self__", None) is app:
            return holder, name
        attribute = next((each for each in ("app", "wsgi_app") if hasattr(inner, each)), None)
        if attribute is None:
            break
        holder, name = inner, attribute
    return app, "wsgi_app"


def _is_called_without(owner: Any) -> bool:
    """Tell whether it takes no argument; others are given the environ."""
    return _takes(owner) and not _takes(owner, {})


def _takes(function: Any, *arguments: Any) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError):
        return False
    return True


def _in_context(app: Flask, owner: Callable[[], str | None]) -> Callable[[Any], str | None]:
    """Call it in the context of the request that is asked about, which may not be the current."""

    def ask(environ: Any) -> str | None:
        sign = environ.get(REQUEST)
        if has_request_context() and sign is not None and request.environ.get(REQUEST) is sign:
            return owner()
        with app.request_context(without_body(environ)):
            return owner()

    return ask


def monitor_blueprint() -> Blueprint:
    """Return a blueprint with the routes of R, M and the result."""
    blueprint = Blueprint(NAME, __name__)
    for resource in Resource:
        blueprint.add_url_rule(
            f"/<operation_id>{resource.value}",
            endpoint=resource.name.lower(),
            view_func=_show,
            defaults={"resource": resource},
            methods=_METHODS,
        )
    return blueprint


def status_url(app: Flask) -> Callable[[Any, str], str]:
    """Return what the option `status_url` needs to find the blueprint in this application."""

    @looking_at(lambda environ: tuple(map(environ.get, _LOOKED_AT)))
    def url(environ: Any, operation_id: str) -> str:
        adapter = app.url_map.bind_to_environ(environ)
        # Werkzeug encodes all but this.
        adapter.script_name = encode_path(adapter.script_name)
        values = {"operation_id": operation_id, "resource": Resource.RESPONSE}
        try:
            return adapter.build(f"{NAME}.{Resource.RESPONSE.name.lower()}", values)
        except BuildError:
            raise ConfigurationError("register monitor_blueprint() in the application") from None

    return url


def _show(operation_id: str, resource: Resource) -> Response:
    """Answer a request to the status monitor.

    Raises:
        ConfigurationError: The middleware is not around this application, or intercepts.
    """
    show = request.environ.get(MOUNTED)
    if show is None:
        raise ConfigurationError(
            "no RaincheckMiddleware with status_url=raincheck.flask.status_url(app) is around "
            "this application"
        )

    def answer(environ: Any, start_response: Any) -> Any:
        return show(environ, start_response, operation_id, resource)

    body, status, headers = run_wsgi_app(answer, request.environ)
    recorded = list(headers)
    shown_as = _shown_as(current_app.response_class)  # type: ignore[arg-type]
    shown: Response = shown_as(status=status, headers=recorded)
    shown.recorded = body, status, recorded  # type: ignore[attr-defined]
    return shown


@cache
def _shown_as(response_class: type[Response]) -> type[Response]:
    """Return a kind of response to which `after_request` may add header fields, and no more.

    It is a stand-in without a body, as compression and its kin would make another response of it.
    """

    class Shown(response_class):  # type: ignore[misc, valid-type]
        def get_wsgi_response(
            self, environ: Any
        ) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
            body, status, headers = self.recorded
            new = added(headers, list(self.headers))
            return ClosingIterator(body, self.close), status, [*headers, *new]

    return Shown
