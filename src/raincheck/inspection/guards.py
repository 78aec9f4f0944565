"""What asks who the client is, where that is known, and whether a mark comes before it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from raincheck.handler import EFFECTIVE, long_running
from raincheck.inspection.marks import DEPTH, reachable, role_of

# Modules whose wrappers and classes let only some clients through.
GUARDS = (
    *("django.contrib.auth.decorators", "django.contrib.auth.mixins"),
    *("django.contrib.admin.views.decorators", "guardian", "oauth2_provider", "rules.contrib"),
    *("rest_framework.decorators", "rest_framework.views", "rest_framework.viewsets"),
    *("flask_login", "flask_httpauth", "flask_jwt_extended", "flask_security", "flask_principal"),
    *("authlib.integrations", "quart_auth", "starlette.authentication"),
)
HOOKS = {"falcon.hooks": "do_before"}  # a module, and which of its wrappers runs first


def guard_behind_mark(handler: object, method: str) -> tuple[FunctionType, str] | None:
    """Return a marked function and the module of what its mark passes by; None if it doesn't."""
    mark = _mark(handler, method)
    if mark is None:
        return None
    guard = next((module for layer in _below(mark) for module in _guards(layer)), None)
    return (mark, guard) if guard else None


def innermost(function: Any) -> Any:
    """Return the function that decorators are around, as far as they say so."""
    *_, last = [function, *_below(function)]
    return last


def _mark(handler: object, method: str) -> FunctionType | None:
    """Return our own wrapper; else what is nearest to where Django hides it."""
    marked = [
        found
        for found in reachable(handler, method)
        if type(found) is FunctionType and role_of(found) == EFFECTIVE
    ]
    ours = (found for found in marked if _is_ours(found))
    return next(ours, marked[-1] if marked else None)


def _is_ours(function: FunctionType) -> bool:
    decorator: Any = long_running
    return function.__code__.co_filename == str(decorator.__code__.co_filename)


def _below(layer: Any) -> Iterator[Any]:
    for _ in range(DEPTH):
        kind = type(layer)
        if kind is FunctionType:
            layer = layer.__dict__.get("__wrapped__")
        elif kind is MethodType:
            layer = layer.__func__
        elif kind is functools.partial:
            layer = layer.func
        else:
            return
        if type(layer) in (FunctionType, MethodType, functools.partial):
            yield layer


def _guards(layer: object) -> Iterator[str]:
    """Yield the modules of a layer's code and classes that are guards."""
    if type(layer) is not FunctionType:
        return
    module = str(layer.__globals__.get("__name__"))
    if _is_guard(module) or HOOKS.get(module) == layer.__code__.co_name:
        yield module
    view_class = layer.__dict__.get("cls", layer.__dict__.get("view_class"))
    if isinstance(view_class, type):
        yield from (base.__module__ for base in view_class.__mro__ if _is_guard(base.__module__))


def _is_guard(module: str) -> bool:
    return any(module == guard or module.startswith(f"{guard}.") for guard in GUARDS)
