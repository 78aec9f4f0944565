"""Middleware outside ours that keeps something for the current task: handlers run in another one.

What it clears there it has not made: a session of a handler is never given back, not even when its
response comes in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

from raincheck.inspection.layers import is_of, is_ours, unfolded
from raincheck.inspection.looking import namespaces

DEPTH = 5  # functions in functions


def keeps_for_tasks(app: object) -> Iterator[tuple[Any, str]]:
    """Yield functions of middleware outside ours, and what each uses that is kept for a task."""
    for function in _functions_outside(app):
        code_names = set(_names(function.__code__))
        used = [name for name in sorted(code_names) if _is_for_tasks(function, name)]
        if used:
            yield function, used[0]


def _functions_outside(app: object) -> Iterator[FunctionType]:
    outside = list[object]()
    for layer, given in unfolded(app):
        if is_ours(layer):
            yield from (function for one in outside for function in _functions(one))
            return
        outside += [layer, *(given.values() if isinstance(layer, type) else ())]


def _functions(one: object) -> Iterator[FunctionType]:
    if isinstance(one, FunctionType):
        yield one
        return
    for names in namespaces(one if isinstance(one, type) else type(one)):
        yield from (value for value in names.values() if isinstance(value, FunctionType))


def _names(code: CodeType, depth: int = DEPTH) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts if depth else ():
        if isinstance(constant, CodeType):
            yield from _names(constant, depth - 1)


def _is_for_tasks(function: FunctionType, name: str) -> bool:
    found = function.__globals__.get(name)
    if found is asyncio.current_task or (name == "current_task" and _uses_asyncio(function)):
        return True
    if not is_of(found, "sqlalchemy", "async_scoped_session"):
        return False
    registry = getattr(found, "registry", None)
    return getattr(registry, "scopefunc", None) is asyncio.current_task


def _uses_asyncio(function: FunctionType) -> bool:
    return any(function.__globals__.get(name) is asyncio for name in _names(function.__code__))
