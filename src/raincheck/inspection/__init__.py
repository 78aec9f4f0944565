"""Finding the handlers of an application without running them.

For the WSGI gateway, which has to know before the call whether a handler is marked, and for the
start-up check. Frameworks are told by their classes, and imported only where they are asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, cast

from raincheck.inspection.bottle import BottleDirectory
from raincheck.inspection.directory import Directory, Endpoint, Lookup
from raincheck.inspection.dispatching import DispatcherDirectory
from raincheck.inspection.django import DjangoDirectory
from raincheck.inspection.falcon import FalconDirectory
from raincheck.inspection.flask import FlaskDirectory
from raincheck.inspection.layers import is_of, layers
from raincheck.inspection.litestar import LitestarDirectory
from raincheck.inspection.main_thread import bound_to_main_thread
from raincheck.inspection.marks import leads_to_mark
from raincheck.inspection.pyramid import PyramidDirectory
from raincheck.inspection.starlette import StarletteDirectory

__all__ = [
    "Directory",
    "Endpoint",
    "MarkedRequests",
    "bound_requests",
    "bound_requests_of",
    "find_application",
    "find_directory",
    "leads_to_mark",
    "marked_requests",
]

logger = logging.getLogger("raincheck")

REMEMBERED = 1_000
KEY_REMEMBERED = 256  # characters: longer paths are rare, or meant to fill the memory


def find_application(app: object) -> object | None:
    """Return the nearest layer that is an application of a known framework; None if none is."""
    kinds = [(package, name) for package, name, _ in _FRAMEWORKS]
    is_known = (layer for layer in layers(app) if any(is_of(layer, *kind) for kind in kinds))
    return next(is_known, None)


def find_directory(app: object) -> Directory | None:
    """Return the directory of an application's handlers; None if its framework is not known.

    Args:
        app: A WSGI or ASGI application, with or without middleware around it.
    """
    for layer in layers(app):
        for package, name, find in _FRAMEWORKS:
            if is_of(layer, package, name):
                return find(layer)
    return None


def marked_requests(app: object) -> Callable[[Mapping[str, Any]], bool] | None:
    """Return what tells of a WSGI environ whether its handler leads to a mark.

    It never raises and never changes the environ. No handler is looked up before it is called for
    the first time: the application may still be unfinished.

    Args:
        app: A WSGI application, with or without middleware around it.

    Returns:
        None if the framework is not known.
    """
    directory = find_directory(app)
    return MarkedRequests(cast(Lookup, directory)) if hasattr(directory, "find") else None


def bound_requests(app: object) -> Callable[[Mapping[str, Any]], bool] | None:
    """Return what tells of a WSGI environ whether its handler needs a process's main thread.

    As far as can be seen. All handlers are looked at now, so that requests are not, if none does.

    Args:
        app: As for `marked_requests`.

    Returns:
        None if no handler does, or the framework is not known.
    """
    directory = find_directory(app)
    return bound_requests_of(directory) if directory is not None else None


def bound_requests_of(directory: Directory) -> Callable[[Mapping[str, Any]], bool] | None:
    """Do so for an application's directory."""
    try:
        handlers = [(each.handler, method) for each in directory.all() for method in _methods(each)]
        seen: set[FunctionType] = set()
        is_any = any(bound_to_main_thread(*handler, seen) for handler in handlers)
    except Exception:  # the application's own, which it will say itself
        is_any = False
    return BoundRequests(cast(Lookup, directory)) if is_any and hasattr(directory, "find") else None


def _methods(endpoint: Endpoint) -> Iterable[str]:
    return endpoint.methods or ("GET", "POST")


class MarkedRequests:
    """Remembers which handlers are marked, and which requests are for them.

    Args:
        lookup: Where handlers are looked up.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._requests: dict[str, bool] = {}
        # The handler is kept beside its id, which would otherwise be given away again.
        self._handlers: dict[tuple[int, str], tuple[object, bool]] = {}

    def __call__(self, environ: Mapping[str, Any]) -> bool:
        """Tell whether the handler of this request leads to a mark."""
        try:
            key = self._lookup.key(environ)
        except Exception:
            return False
        if key is None or len(key) > KEY_REMEMBERED:
            return self._find(environ)
        verdict = self._requests.get(key)
        if verdict is None:
            verdict = self._find(environ)
            _make_room(self._requests)
            self._requests[key] = verdict
        return verdict

    def _find(self, environ: Mapping[str, Any]) -> bool:
        try:
            handler = self._lookup.find(environ)
            return handler is not None and self._leads(handler, str(environ["REQUEST_METHOD"]))
        except Exception:  # no route, a redirect, another method; the application will say so
            return False

    def _leads(self, handler: object, method: str) -> bool:
        known = self._handlers.get((id(handler), method))
        if known is None:
            known = handler, self._judge(handler, method)
            _make_room(self._handlers)
            self._handlers[id(handler), method] = known
        return known[1]

    def _judge(self, handler: object, method: str) -> bool:
        return leads_to_mark(handler, method)


class BoundRequests(MarkedRequests):
    """Remembers which handlers can be seen to need the main thread, and which requests do."""

    def _judge(self, handler: object, method: str) -> bool:
        name = bound_to_main_thread(handler, method)
        if name is not None:
            logger.warning(
                "%r uses %s, which works in the main thread only: it stays there, and is never "
                "deferred",
                handler,
                name,
            )
        return name is not None


def _make_room(remembered: dict[Any, Any]) -> None:
    if len(remembered) >= REMEMBERED:
        remembered.clear()


_FRAMEWORKS: tuple[tuple[str, str, Callable[[object], Directory]], ...] = (
    ("flask", "Flask", FlaskDirectory),
    ("quart", "Quart", FlaskDirectory),
    ("django", "WSGIHandler", lambda handler: DjangoDirectory()),
    ("django", "ASGIHandler", lambda handler: DjangoDirectory()),
    ("bottle", "Bottle", BottleDirectory),
    ("falcon", "App", FalconDirectory),
    ("pyramid", "Router", PyramidDirectory),
    ("starlette", "Starlette", lambda app: StarletteDirectory(app, find_directory)),
    ("starlette", "Router", lambda router: StarletteDirectory(router, find_directory)),
    ("litestar", "Litestar", LitestarDirectory),
    ("werkzeug", "DispatcherMiddleware", lambda app: DispatcherDirectory(app, find_directory)),
)
