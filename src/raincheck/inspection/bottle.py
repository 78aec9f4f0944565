"""The handlers of Bottle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from raincheck.handler import long_running
from raincheck.inspection.directory import OPAQUE, Endpoint, Environ, decoded, method_of, path_of


class BottleDirectory:
    """Looks into the router of an application.

    Args:
        app: The Bottle object.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def find(self, environ: Environ) -> object | None:
        """Return the callback of a request's route."""
        path = decoded(path_of(environ), "ignore")
        request = {"REQUEST_METHOD": method_of(environ), "PATH_INFO": path}
        route, _ = self._app.router.match(request)
        return _handler(route)

    def key(self, environ: Environ) -> None:
        """Return nothing: the router is fast."""

    def all(self) -> Iterator[Endpoint]:
        """Yield the routes."""
        for route in self._app.routes:
            methods = frozenset() if route.method in ("ANY", "PROXY") else {route.method}
            yield Endpoint(route.rule, _handler(route), frozenset(methods))

    def middlewares(self) -> Iterable[object]:
        """Return nothing: they are around the application."""
        return ()


def _handler(route: Any) -> object:
    # What is mounted as any WSGI application is not looked into.
    is_mounted = "mountpoint.target" in route.config
    is_marked = any(plugin is long_running for plugin in route.all_plugins())
    handler: object = OPAQUE if is_marked or is_mounted else route.callback
    return handler
