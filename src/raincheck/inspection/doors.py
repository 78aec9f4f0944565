"""The ways into what is mounted in an application, and which paths go them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from raincheck.inspection.layers import is_of, layers

DEPTH = 8  # applications in applications
PARAMETER = re.compile(r"{[^}]*}")


@dataclass(frozen=True, slots=True)
class Door:
    """One way into an application that is mounted in another.

    Attributes:
        prefix: What is before the path that the mounted one sees.
        leads: Tells of a whole path whether it goes this way.
        app: What is mounted.
        holder: In which layer of the other.
    """

    prefix: str
    leads: Callable[[str], bool]
    app: object
    holder: object


def doors(app: object) -> Iterator[Door]:
    """Yield the ways into what is mounted in an application, and in no middleware of it."""
    layer: Any
    for layer in layers(app):
        if is_dispatcher(layer):
            for prefix, mounted in layer.mounts.items():
                yield Door(prefix, _leads_to(layer.mounts, prefix), mounted, layer)
        elif is_of(layer, "starlette", "Starlette") or is_of(layer, "starlette", "Router"):
            yield from _mounts(layer)


def default_door(dispatcher: Any) -> Door:
    """Return the way of what a dispatcher has mounted nowhere."""
    return Door("", _leads_to(dispatcher.mounts, ""), dispatcher.app, dispatcher)


def is_dispatcher(layer: Any) -> bool:
    """Tell whether it is Werkzeug's, which has some of its applications in attributes."""
    return is_of(layer, "werkzeug", "DispatcherMiddleware")


def _mounts(app: Any) -> Iterator[Door]:
    routes = list(app.routes)
    for route in routes:
        is_mount = hasattr(route, "app") and hasattr(route, "path")
        if is_mount and not hasattr(route, "endpoint"):
            prefix = PARAMETER.sub("x", route.path)
            yield Door(prefix, _is_first(routes, route), route.app, app)


def _leads_to(mounts: Mapping[str, object], wanted: str) -> Callable[[str], bool]:
    """Tell whether Werkzeug's dispatcher goes this way: the longest prefix, by segments."""

    def leads(path: str) -> bool:
        while "/" in path and path not in mounts:
            path = path.rpartition("/")[0]
        return path == wanted

    return leads


def _is_first(routes: list[Any], wanted: Any) -> Callable[[str], bool]:
    """Tell whether Starlette goes this way: the first route that matches."""

    def leads(path: str) -> bool:
        return next((route is wanted for route in routes if _matches(route, path)), True)

    return leads


def _matches(route: Any, path: str) -> bool:
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    with suppress(Exception):  # a route of their own, which looks at what only requests have
        return bool(route.matches(scope)[0].name == "FULL")
    return False
