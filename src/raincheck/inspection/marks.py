"""Whether a handler leads to a mark, found by looking at it. Nothing of the application is run.

Frameworks wrap handlers in classes, decorators and closures; what is looked at are the plain
attributes of plain functions, classes and objects. Where it is not sure, the answer is yes: that
only costs a thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from types import CellType, FunctionType, MappingProxyType, MethodType
from typing import Any

from raincheck.handler import BYPASSED, EFFECTIVE, MARK
from raincheck.inspection.directory import Candidates, Opaque
from raincheck.inspection.looking import attribute, attribute_of_class, attributes, is_a, namespaces

DEPTH = 16  # wrappers around wrappers
OBJECTS = 400  # that are looked at for one handler
METHODS = frozenset({"get", "post", "put", "patch", "delete", "head", "options", "trace"})
# Django REST framework's viewsets name their own methods after what they do.
ACTIONS = METHODS | {"list", "create", "retrieve", "update", "partial_update", "destroy"}
ENTRANCES = ("dispatch", "dispatch_request", "__call__")

_Look = Callable[[Any, str], Iterator[object]]


def leads_to_mark(handler: object, method: str) -> bool:
    """Tell whether a call of this handler for that HTTP method gets to a marked function."""
    return any(
        is_a(found, Opaque) or role_of(found) == EFFECTIVE for found in reachable(handler, method)
    )


def bypassed(handler: object, method: str) -> Iterator[FunctionType]:
    """Yield the functions that were marked and are called here without their mark."""
    for found in reachable(handler, method):
        if type(found) is FunctionType and role_of(found) == BYPASSED:
            yield found


def role_of(found: object) -> str | None:
    """Return what the decorator has written on it, if it is one of its two functions."""
    role = attribute(found, MARK)
    return role if type(role) is str else None


def reachable(handler: object, method: str) -> Iterator[object]:
    """Yield the handler and what a call of it may call in turn, nearest first."""
    seen: dict[int, object] = {}  # holds what it has seen: else ids were given away again
    level = [handler]
    for _ in range(DEPTH):
        following: list[object] = []
        for found in level:
            if id(found) in seen or len(seen) >= OBJECTS:
                continue
            seen[id(found)] = found
            yield found
            following += _behind(found, method)
        level = following


def _behind(found: object, method: str) -> Iterator[object]:
    for kind, look in _LOOKS:
        if is_a(found, kind):
            return look(found, method)
    return _behind_object(found, method)


def _behind_function(function: FunctionType, method: str) -> Iterator[object]:
    notes = function.__dict__
    if "__wrapped__" in notes:
        yield notes["__wrapped__"]
    view_class = notes.get("cls", notes.get("view_class"))
    if is_a(view_class, type):
        yield from _behind_class(view_class, method, _actions(notes.get("actions")))
    for cell in function.__closure__ or ():
        content = _content(cell)
        # The class of a class-based view was looked at above, knowing which method is asked for.
        if content is not view_class and _may_be_called(content):
            yield content


def _actions(actions: object) -> dict[str, str]:
    """Return which of a viewset's methods a route has for each HTTP method."""
    if type(actions) is not dict:
        return {}
    return {method: name for method, name in actions.items() if type(method) is type(name) is str}


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # it is still empty
        return None


def _may_be_called(content: object) -> bool:
    if is_a(content, FunctionType, MethodType, functools.partial, type):
        return True
    return _has_operations(content) or _has_call(content)


def _has_operations(view: object) -> bool:
    return "operations" in attributes(view)


def _has_call(found: object) -> bool:
    return type(attribute_of_class(type(found), "__call__")) is FunctionType


def _behind_class(
    cls: Any, method: str, actions: Mapping[str, str] = MappingProxyType({})
) -> Iterator[object]:
    method = method.lower()
    for name in (actions.get(method, method), *ENTRANCES):
        yield attribute_of_class(cls, name)
    # Helpers, such as Django's `form_valid`, are called for who knows which method.
    for names in namespaces(cls):
        for name, value in names.items():
            if name not in ACTIONS and name not in actions.values() and _is_marked_helper(value):
                yield value


def _is_marked_helper(value: object) -> bool:
    if type(value) is not FunctionType or role_of(value) != EFFECTIVE:
        return False
    return "mapping" not in value.__dict__  # another action of a viewset, with a route of its own


def _behind_method(bound: MethodType, method: str) -> Iterator[object]:
    yield bound.__func__
    if _has_operations(bound.__self__):
        yield bound.__self__


def _behind_partial(partial: functools.partial[Any], method: str) -> Iterator[object]:
    yield functools.partial.func.__get__(partial)
    for argument in functools.partial.args.__get__(partial):
        if is_a(argument, FunctionType, MethodType):
            yield argument


def _behind_descriptor(method_of_class: Any, method: str) -> Iterator[object]:
    kind = staticmethod if is_a(method_of_class, staticmethod) else classmethod
    yield kind.__dict__["__func__"].__get__(method_of_class)


def _behind_candidates(candidates: Candidates, method: str) -> Iterator[object]:
    yield from candidates.handlers


def _behind_object(found: object, method: str) -> Iterator[object]:
    """Look into an object that can be called: a decorator that is a class, django-ninja's views."""
    own = attributes(found)
    yield attribute(found, "__wrapped__")
    if _has_call(found):
        yield attribute_of_class(type(found), "__call__")
        for value in own.values():
            if is_a(value, FunctionType, MethodType, functools.partial):
                yield value
    operations = own.get("operations")
    for operation in operations if type(operations) is list else ():
        facts = attributes(operation)
        methods = facts.get("methods")
        if type(methods) not in (list, set) or method in (methods or ()):
            yield facts.get("view_func")


_LOOKS: tuple[tuple[type, _Look], ...] = (
    (FunctionType, _behind_function),
    (MethodType, _behind_method),
    (functools.partial, _behind_partial),
    (staticmethod, _behind_descriptor),
    (classmethod, _behind_descriptor),
    (type, _behind_class),
    (Candidates, _behind_candidates),
)
