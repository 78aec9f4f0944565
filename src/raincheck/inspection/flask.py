"""The handlers of Flask, and of Quart, which keeps them in the same places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from raincheck.inspection.directory import Endpoint, Environ, decoded, method_of, path_of


class FlaskDirectory:
    """Looks into the URL map of an application.

    Args:
        app: The Flask or Quart object.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    @cached_property
    def _by_host(self) -> bool:
        return bool(self._app.url_map.host_matching or self._app.subdomain_matching)

    @cached_property
    def _adapter(self) -> Any:
        """The one adapter for all requests, if no host decides anything."""
        url_map = self._app.url_map
        return url_map.bind("localhost", subdomain=url_map.default_subdomain or "")

    def find(self, environ: Environ) -> object | None:
        """Return the view function of a request."""
        path, method = decoded(path_of(environ)), method_of(environ)
        adapter = self._bind(environ) if self._by_host else self._adapter
        endpoint, _ = adapter.match(path, method)
        handler: object = self._app.view_functions.get(endpoint)
        return handler

    def _bind(self, environ: Environ) -> Any:
        url_map = self._app.url_map
        server = None if url_map.host_matching else self._app.config["SERVER_NAME"]
        return url_map.bind_to_environ(dict(environ), server_name=server)

    def key(self, environ: Environ) -> str:
        """Return method and path, and the host where it matters."""
        request = f"{method_of(environ)} {path_of(environ)}"
        if not self._by_host:
            return request
        host = environ.get("HTTP_HOST") or environ.get("SERVER_NAME")
        return f"{request} {environ.get('wsgi.url_scheme')}://{host}:{environ.get('SERVER_PORT')}"

    def all(self) -> Iterator[Endpoint]:
        """Yield the rules of the URL map."""
        for rule in self._app.url_map.iter_rules():
            handler = self._app.view_functions.get(rule.endpoint)
            if handler is not None and not getattr(rule, "websocket", False):
                yield Endpoint(rule.rule, handler, frozenset(rule.methods or ()))

    def middlewares(self) -> Iterable[object]:
        """Return nothing: they are around `wsgi_app`."""
        return ()
