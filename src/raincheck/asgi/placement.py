"""Where a middleware can't be: in a single route, to which polls never come."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any

from raincheck.errors import ConfigurationError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

MISPLACED = (
    "RaincheckMiddleware is around the endpoint of a single route, so polls, whose path is another "
    "one, never come to it: add it to the application (add_middleware), with the route's path in "
    "the option `include`"
)
DEPTH = 20  # middlewares around an endpoint, and mounts in mounts
_FRAMEWORKS = ("starlette.routing", "fastapi.routing")


def refuse_endpoint(app: ASGIApp) -> None:
    """Check what a middleware is put around.

    Raises:
        ConfigurationError: It is what Starlette and FastAPI make of a route's function.
    """
    *_, innermost = _chain(app)
    is_theirs = isinstance(innermost, FunctionType) and innermost.__module__ in _FRAMEWORKS
    if is_theirs and innermost.__qualname__.startswith("request_response."):
        raise ConfigurationError(MISPLACED)


def refuse_route(scope: Scope, app: ASGIApp) -> None:
    """Check how the first request has come to a middleware.

    Args:
        app: What the middleware is around.

    Raises:
        ConfigurationError: By a route of Starlette's or FastAPI's.
    """
    routes = getattr(scope.get("router"), "routes", ())
    if any(one is app for route in _routes(routes) for one in _chain(getattr(route, "app", None))):
        raise ConfigurationError(MISPLACED)


def _chain(app: Any) -> Iterator[Any]:
    """Yield what an application is around, from the outside in."""
    for _ in range(DEPTH):
        yield app
        app = getattr(app, "app", None)
        if app is None:
            return


def _routes(routes: Any, depth: int = DEPTH) -> Iterator[Any]:
    """Yield routes that lead to one endpoint; what takes any path below it takes polls, too."""
    for route in routes if depth else ():
        inner = getattr(route, "routes", None)
        if inner:
            yield from _routes(inner, depth - 1)
        elif hasattr(route, "endpoint") and ":path}" not in getattr(route, "path", ""):
            yield route
