"""The layers of an application: what is around its framework, from the outside in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import FunctionType
from typing import Any

from raincheck.inspection.looking import attributes

OBJECTS = 60  # that are looked at; each middleware is one or two
# Where middlewares keep what they are around.
ATTRIBUTES = (
    *("app", "wsgi", "wsgi_app", "asgi_app", "application", "wsgi_application", "other_asgi_app"),
    *("wrapped", "__wrapped__", "__self__", "func", "_app"),
)


def layers(app: object) -> Iterator[object]:
    """Yield the application and whatever it seems to be around, nearest first."""
    seen: dict[int, object] = {}
    queue = [app]
    while queue and len(seen) < OBJECTS:
        layer = queue.pop(0)
        if id(layer) not in seen:
            seen[id(layer)] = layer
            yield layer
            queue += [inner for inner in _inside(layer) if callable(inner)]


def _inside(layer: Any) -> Iterator[object]:
    for name in ATTRIBUTES:
        with suppress(Exception):  # properties of theirs, and who knows what
            yield getattr(layer, name)
    if type(layer) is FunctionType:
        for cell in layer.__closure__ or ():
            with suppress(ValueError):  # it is still empty
                yield cell.cell_contents
    by_protocol = getattr(layer, "application_mapping", None)  # of Django Channels
    if isinstance(by_protocol, dict):
        yield by_protocol.get("http")


def is_of(app: object, package: str, name: str) -> bool:
    """Tell whether it is an instance of that class of that framework, without importing it."""
    return any(
        base.__name__ == name and package in base.__module__.split(".")
        for base in type(app).__mro__
    )


def unfolded(app: object) -> Iterator[tuple[object, Mapping[str, Any]]]:
    """Yield layers with what they were given, and the middlewares that Starlette will put there.

    Those are classes, in the order in which they are called.
    """
    for layer in layers(app):
        yield layer, attributes(layer)
        added = attributes(layer).get("user_middleware")
        for middleware in added if isinstance(added, list) else ():
            yield middleware.cls, middleware.kwargs


def option(ours: object, given: Mapping[str, Any], name: str) -> Any:
    """Return an option of a middleware of ours; None if it was not given.

    Args:
        ours: The middleware, or its class.
        given: What `unfolded` says that it was given.
    """
    if isinstance(ours, type):
        return given.get(name)
    return getattr(given["_gateway"].engine.settings, name)


def is_ours(middleware: Any) -> bool:
    """Tell whether it is a middleware of ours: an object, a class, or the name of one."""
    if isinstance(middleware, str):  # Django's settings name them
        return middleware.startswith("raincheck.")
    if isinstance(middleware, type):
        return any(_is_called_so(base) for base in middleware.__mro__)
    return is_of(middleware, "raincheck", "RaincheckMiddleware")


def _is_called_so(cls: type) -> bool:
    return cls.__name__ == "RaincheckMiddleware" and cls.__module__.startswith("raincheck.")
