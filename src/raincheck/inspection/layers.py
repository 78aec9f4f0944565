"""The layers of an application: what is around its framework, from the outside in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import FunctionType
from typing import Any

OBJECTS = 60  # that are looked at; each middleware is one or two
# Where middlewares keep what they are around.
ATTRIBUTES = (
    *("app", "wsgi_app", "asgi_app", "application", "wsgi_application", "other_asgi_app"),
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
