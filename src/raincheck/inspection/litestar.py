"""The handlers of Litestar, for listing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from raincheck.inspection.directory import Endpoint


class LitestarDirectory:
    """Looks into the routes of an application.

    Args:
        app: The Litestar object.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def all(self) -> Iterator[Endpoint]:
        """Yield the handlers of HTTP routes, except those for OPTIONS that Litestar adds."""
        for route in self._app.routes:
            for handler in getattr(route, "route_handlers", ()):
                methods = frozenset(str(method) for method in handler.http_methods)
                if methods != {"OPTIONS"}:
                    yield Endpoint(route.path, handler.fn, methods)

    def middlewares(self) -> Iterable[object]:
        """Return the application's middlewares."""
        return tuple(getattr(self._app, "middleware", ()))
