"""The handlers of Falcon: responders of resources, and sinks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from raincheck.inspection.directory import Endpoint, Environ, decoded, method_of, path_of


class FalconDirectory:
    """Looks into the router of an application. Falcon has no public way to do so.

    Args:
        app: The App object, for WSGI or ASGI.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def find(self, environ: Environ) -> object | None:
        """Return the responder of a request, or the sink."""
        path = decoded(path_of(environ)) or "/"
        if self._app.req_options.strip_url_path_trailing_slash and len(path) > 1:
            path = path.removesuffix("/")
        found = self._app._router.find(path)
        if found is not None and found[0] is not None:
            responder: object = found[1].get(method_of(environ))
            return responder
        return next((sink for pattern, sink in self._sinks() if pattern.match(path)), None)

    def _sinks(self) -> Iterator[tuple[Any, object]]:
        for pattern, handler, *_ in getattr(self._app, "_sink_and_static_routes", ()):
            yield pattern, handler

    def key(self, environ: Environ) -> None:
        """Return nothing: the router is fast."""

    def all(self) -> Iterator[Endpoint]:
        """Yield the responders that resources have themselves, and the sinks."""
        for path, node in _nodes(getattr(self._app._router, "_roots", ())):
            for method, responder in node.method_map.items():
                if _is_own(responder):
                    yield Endpoint(path, responder, frozenset({method}))
        for pattern, handler, is_sink in getattr(self._app, "_sink_and_static_routes", ()):
            if is_sink:
                yield Endpoint(pattern.pattern, handler)

    def middlewares(self) -> Iterable[object]:
        """Return nothing: they are around the application."""
        return ()


def _nodes(nodes: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for node in nodes:
        if node.uri_template is not None and node.resource is not None:
            yield node.uri_template, node
        yield from _nodes(node.children)


def _is_own(responder: Any) -> bool:
    """Tell a resource's own responder from those that Falcon adds for OPTIONS and 405."""
    return not getattr(responder, "__module__", "").startswith("falcon.")
