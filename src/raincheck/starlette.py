"""The status monitor as Starlette routes, to mount behind the application's own authentication.

    routes = [Mount("/pending", routes=monitor_routes(), middleware=[Middleware(RequireLogin)])]
    app = Starlette(routes=routes)
    app.add_middleware(RaincheckMiddleware, status_url=status_url)

The middleware then intercepts nothing, and the links it gives follow the mount.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import NoMatchFound, Route

from raincheck.asgi import MOUNTED
from raincheck.errors import ConfigurationError
from raincheck.http.urls import encode_path
from raincheck.monitor.links import Resource, looking_at

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

ROUTE = "raincheck-operation"


class MonitorResponse(Response):
    """The status monitor's answer to the request of an endpoint that returns this.

    For endpoints of your own (FastAPI's with dependencies, say); `monitor_routes` is simpler.

    Args:
        operation_id: The operation that the request is for.
        resource: Which of its resources.
    """

    def __init__(self, operation_id: str, resource: Resource = Resource.RESPONSE) -> None:
        super().__init__()
        self._operation_id = operation_id
        self._resource = resource

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer.

        Raises:
            ConfigurationError: The middleware is not around this application, or intercepts.
        """
        if MOUNTED not in scope:
            raise ConfigurationError(
                "no RaincheckMiddleware with status_url=raincheck.starlette.status_url is around "
                "these routes"
            )
        await scope[MOUNTED](scope, receive, send, self._operation_id, self._resource)


def monitor_routes() -> list[Route]:
    """Return the routes of R, M and the result, relative to wherever they are mounted."""
    names = {Resource.RESPONSE: ROUTE}
    return [_route(resource, names.get(resource)) for resource in Resource]


@looking_at(lambda scope: scope.get("app"))
def status_url(scope: Scope, operation_id: str) -> str:
    """Return the path of R below the mounted routes; pass it as the option `status_url`.

    Raises:
        ConfigurationError: The application has no route that `monitor_routes` made, or is not
            known because the middleware was put around it instead of added to it.
    """
    if "app" not in scope:
        raise ConfigurationError("install RaincheckMiddleware with the app's add_middleware()")
    try:
        path = scope["app"].url_path_for(ROUTE, operation_id=operation_id)
    except NoMatchFound:
        raise ConfigurationError("mount monitor_routes() in the application") from None
    return encode_path(f"{scope.get('root_path', '').rstrip('/')}{path}")


def _route(resource: Resource, name: str | None) -> Route:
    async def show(request: Request) -> Response:
        return MonitorResponse(request.path_params["operation_id"], resource)

    # Every method: the monitor itself knows what to say to the wrong ones.
    route = Route("/{operation_id}" + resource.value, show, name=name or f"{ROUTE}{resource.value}")
    route.methods = None
    return route
