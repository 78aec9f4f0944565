"""Several applications below different paths: what Werkzeug's DispatcherMiddleware does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from raincheck.inspection.directory import OPAQUE, Directory, Endpoint, Environ, method_of, path_of


class DispatcherDirectory:
    """Looks into the application that a path is dispatched to.

    Args:
        app: The DispatcherMiddleware object.
        inner: Finds the directory of an application.
    """

    def __init__(self, app: Any, inner: Callable[[object], Directory | None]) -> None:
        self._default = inner(app.app)
        self._mounts = {prefix: inner(mounted) for prefix, mounted in app.mounts.items()}
        self._apps = (app.app, *app.mounts.values())

    def find(self, environ: Environ) -> object | None:
        """Return the handler that the application of this path has for the rest of it."""
        directory, path = self._choose(path_of(environ))
        find = getattr(directory, "find", None)
        if find is None:
            return OPAQUE
        handler: object = find({**environ, "PATH_INFO": path})
        return handler

    def _choose(self, path: str) -> tuple[Directory | None, str]:
        """Find the longest prefix, segment by segment, as Werkzeug does."""
        below = ""
        while "/" in path:
            if path in self._mounts:
                return self._mounts[path], below
            path, _, last = path.rpartition("/")
            below = f"/{last}{below}"
        return self._mounts.get(path, self._default), below

    def key(self, environ: Environ) -> str | None:
        """Return what the applications ask for, if they do."""
        directory, path = self._choose(path_of(environ))
        key = getattr(directory, "key", None)
        inner = key({**environ, "PATH_INFO": path}) if key else None
        return None if inner is None else f"{method_of(environ)} {path_of(environ)} {inner}"

    def all(self) -> Iterator[Endpoint]:
        """Yield what all of them have."""
        for prefix, directory in {"": self._default, **self._mounts}.items():
            for endpoint in directory.all() if directory else ():
                yield Endpoint(prefix + endpoint.where, endpoint.handler, endpoint.methods)

    def middlewares(self) -> Iterable[object]:
        """Return the applications, which may have some around them."""
        return self._apps
