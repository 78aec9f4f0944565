"""The handlers of Starlette and FastAPI, for listing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from raincheck.inspection.directory import Directory, Endpoint

DEPTH = 20  # mounts in mounts


class StarletteDirectory:
    """Looks into the routes of an application or a router.

    Args:
        app: The Starlette, FastAPI or Router object.
        inner: Finds the directory of an application that is mounted in this one.
    """

    def __init__(self, app: Any, inner: Callable[[object], Directory | None]) -> None:
        self._app = app
        self._inner = inner

    def all(self) -> Iterator[Endpoint]:
        """Yield the routes, those of mounted applications too."""
        return self._endpoints(self._app.routes, "", DEPTH)

    def _endpoints(self, routes: Iterable[Any], prefix: str, depth: int) -> Iterator[Endpoint]:
        for route in _flat(routes) if depth else ():
            path = prefix + (getattr(route, "path", None) or "")
            endpoint = getattr(route, "endpoint", None)
            methods = getattr(route, "methods", None)
            if endpoint is not None and not _is_websocket(route):
                yield Endpoint(path, endpoint, frozenset(methods or ()))
            elif inner := getattr(route, "routes", None):
                yield from self._endpoints(inner, path, depth - 1)
            elif mounted := getattr(route, "app", None):
                yield from self._mounted(mounted, path)

    def _mounted(self, app: object, prefix: str) -> Iterator[Endpoint]:
        directory = self._inner(app)
        for endpoint in directory.all() if directory else ():
            yield Endpoint(prefix + endpoint.where, endpoint.handler, endpoint.methods)

    def middlewares(self) -> Iterable[object]:
        """Return the classes of the application's middlewares, and what is mounted."""
        added = getattr(self._app, "user_middleware", ())
        mounted = [getattr(route, "app", None) for route in self._app.routes]
        return [*(middleware.cls for middleware in added), *mounted]


def _flat(routes: Iterable[Any]) -> Iterable[Any]:
    """Open what FastAPI's `include_router` made, which can't be seen from outside."""
    if "fastapi" not in sys.modules:  # to import it takes a second
        return routes
    try:
        from fastapi.routing import iter_route_contexts
    except ImportError:  # no FastAPI, or one that includes routes as they are
        return routes
    contexts: Iterable[Any] = iter_route_contexts(list(routes))
    return contexts


def _is_websocket(route: Any) -> bool:
    return "WebSocket" in type(getattr(route, "original_route", route)).__name__
