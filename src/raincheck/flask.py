"""The status monitor as a Flask blueprint, to register behind the application's own authentication.

    monitor = monitor_blueprint()
    monitor.before_request(require_login)
    app.register_blueprint(monitor, url_prefix="/pending")
    app.wsgi_app = RaincheckMiddleware(app.wsgi_app, status_url=status_url(app))

The middleware then intercepts nothing, and the links it gives follow the blueprint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, request
from werkzeug.routing import BuildError
from werkzeug.wrappers import Response

from raincheck.errors import ConfigurationError
from raincheck.links import Resource, encode_path, looking_at
from raincheck.wsgi import MOUNTED

NAME = "raincheck"
# All of them: the monitor itself knows what to say to the wrong ones.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# Whether a blueprint of a subdomain is of another host.
_LOOKED_AT = ("HTTP_HOST", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme")


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

    return Response.from_app(answer, request.environ)
