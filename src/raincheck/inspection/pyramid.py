"""The handlers of Pyramid: views by route, and those found by traversal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from raincheck.inspection.directory import OPAQUE, Candidates, Endpoint, Environ, method_of, path_of
from raincheck.inspection.looking import attribute, is_a

_Views = dict[str | None, list[dict[str, Any]]]


class PyramidDirectory:
    """Looks into what the configuration has noted down.

    Which of a route's views is called is decided by predicates, for which Pyramid needs a request;
    so all of them count.

    Args:
        app: What `make_wsgi_app` returned.
    """

    def __init__(self, app: Any) -> None:
        self._registry = app.registry

    @cached_property
    def _views(self) -> _Views:
        views: _Views = {}
        introspector = getattr(self._registry, "introspector", None)
        for entry in introspector.get_category("views", ()) if introspector else ():
            view = entry["introspectable"]
            views.setdefault(view["route_name"], []).append(view)
        return views

    @cached_property
    def _candidates(self) -> dict[str | None, Candidates]:
        return {
            route: Candidates(tuple(_callable(view) for view in views))
            for route, views in self._views.items()
        }

    def find(self, environ: Environ) -> object | None:
        """Return the views of the route that the path matches, or of those that it may be."""
        if not self._views:  # the configuration was told to note down nothing
            return OPAQUE
        path = path_of(environ).encode("latin-1").decode("utf-8") or "/"
        found = [self._candidates[name] for name in self._names(path) if name in self._candidates]
        return found[0] if len(found) == 1 else Candidates(tuple(found)) if found else None

    def _names(self, path: str) -> Iterator[str | None]:
        """Yield the routes that may take the path, and None if traversal may."""
        for route in self._routes():
            if route.match(path) is None:
                continue
            yield route.name
            if not route.predicates:  # it does take the path
                if self._has_views_of_all(route.name):
                    break
                return
        yield None

    def _has_views_of_all(self, route_name: str) -> bool:
        """Tell whether the views without a route are a route's, too (`use_global_views`)."""
        from pyramid.interfaces import IRequest, IRouteRequest  # type: ignore[import-untyped]

        request = self._registry.queryUtility(IRouteRequest, name=route_name)
        return request is not None and bool(request.isOrExtends(IRequest))

    def _routes(self) -> Iterable[Any]:
        from pyramid.interfaces import IRoutesMapper

        mapper = self._registry.queryUtility(IRoutesMapper)
        routes: Iterable[Any] = mapper.get_routes() if mapper else ()
        return routes

    def key(self, environ: Environ) -> str:
        """Return method and path."""
        return f"{method_of(environ)} {path_of(environ)}"

    def all(self) -> Iterator[Endpoint]:
        """Yield the views."""
        paths = {route.name: route.pattern for route in self._routes()}
        for route_name, views in self._views.items():
            for view in views:
                methods = view.get("request_methods") or ()
                methods = {methods} if isinstance(methods, str) else methods
                where = paths.get(route_name) or f"view {view.get('name') or ''!r}"
                yield Endpoint(where, _callable(view), frozenset(methods))

    def middlewares(self) -> Iterable[object]:
        """Return nothing: they are around the application."""
        return ()


def _callable(view: dict[str, Any]) -> object:
    """Return the view; of a class the method that is called."""
    handler: object = view["callable"]
    if view.get("attr") or is_a(handler, type):
        return attribute(handler, view.get("attr") or "__call__")
    return handler
