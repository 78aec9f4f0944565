"""What works in the main thread of a process only, and which handlers can be seen to use it.

A server with one thread calls handlers there: gunicorn's sync worker, uwsgi without threads. A
handler that may be deferred runs in another thread, where these fail, or reach the wrong one.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator, Mapping
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from types import CodeType, FunctionType, ModuleType
from typing import Any

from raincheck.inspection.looking import attribute, is_a, namespaces
from raincheck.inspection.marks import reachable

FUNCTIONS = 200  # that are looked into for one handler
# Whoever sets an alarm, it goes off in the main thread.
_SIGNALS = ("signal.signal", "signal.alarm", "signal.setitimer", "signal.set_wakeup_fd")
# Before Python 3.14 it makes a loop in the main thread, and raises in others.
_LOOPS = ("asyncio.get_event_loop",) if sys.version_info < (3, 14) else ()
BOUND = _SIGNALS + _LOOPS
_NAMES = frozenset(dotted.rpartition(".")[2] for dotted in BOUND)


def bound_to_main_thread(
    handler: object, method: str, seen: set[FunctionType] | None = None
) -> str | None:
    """Name what a call of this handler uses that works in the main thread only; None: nothing.

    It sees what the handler, its decorators, and functions of the same package refer to by name.

    Args:
        seen: Functions that are known to use nothing of the kind; those of the handler are added.
    """
    seen = set() if seen is None else seen
    functions = [each for each in _functions(handler, method) if each not in seen]
    package, most = _package(functions[0]) if functions else "", len(seen) + FUNCTIONS
    while functions and len(seen) < most:
        function = functions.pop()
        if function in seen:
            continue
        if (name := _bound(function)) is not None:
            return name
        seen.add(function)
        for value in _named(function):
            if is_a(value, FunctionType, type) and _package(value) == package:
                functions += (each for each in _functions(value, method) if each not in seen)
    return None


def _named(function: FunctionType) -> Iterator[object]:
    """Yield what the names in a function's code may stand for."""
    for code in _codes(function.__code__):
        for name in code.co_names:
            value = function.__globals__.get(name)
            yield value
            if type(value) is ModuleType:
                yield from (vars(value).get(other) for other in code.co_names)


def _bound(function: FunctionType) -> str | None:
    """Name the first of `BOUND` that a function's own code refers to."""
    names, values = _bound_values(), function.__globals__
    for code in _codes(function.__code__):
        if any(name in _NAMES or id(values.get(name)) in names for name in code.co_names):
            for value in _references(code, values):
                if id(value) in names:
                    return names[id(value)]
    return None


def _bound_values() -> dict[int, str]:
    """Return the names of `BOUND` by what they stand for, as far as that has been imported."""
    found = {}
    for dotted in BOUND:
        module, _, name = dotted.partition(".")
        if (value := getattr(sys.modules.get(module), name, None)) is not None:
            found[id(value)] = dotted
    return found


def _package(found: Any) -> str:
    module = attribute(found, "__module__") if is_a(found, type) else found.__module__
    return str(module).partition(".")[0]


def _functions(found: object, method: str) -> Iterator[FunctionType]:
    """Yield what may run of a handler, or of a class that one uses."""
    yield from (each for each in reachable(found, method) if type(each) is FunctionType)
    if is_a(found, type):
        for names in namespaces(found):  # type: ignore[arg-type]
            yield from (each for each in names.values() if type(each) is FunctionType)


def _references(code: CodeType, values: Mapping[str, object]) -> Iterator[object]:
    """Yield what code refers to: globals, and what modules and its own imports have."""
    imported: object = None  # the module whose names are being imported
    local: dict[object, object] = {}  # what such imports have bound
    loaded: object = None  # last
    for step in dis.get_instructions(code):
        kind, name = step.opname, step.argval
        if kind == "IMPORT_NAME":
            loaded = imported = sys.modules.get(name)
        elif kind in ("IMPORT_FROM", "LOAD_ATTR", "LOAD_METHOD"):
            loaded = _of_module(imported if kind == "IMPORT_FROM" else loaded, name)
        elif kind in ("LOAD_GLOBAL", "LOAD_NAME"):
            loaded = values.get(name)
        elif kind == "STORE_FAST_LOAD_FAST":
            local[name[0]], loaded = loaded, local.get(name[1])
        elif kind.startswith("STORE_"):
            local[name], loaded = loaded, None
        elif kind.startswith("LOAD_"):
            loaded = local.get(name)
        if loaded is not None:
            yield loaded


def _of_module(module: object, name: object) -> object:
    return vars(module).get(str(name)) if type(module) is ModuleType else None


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a function's code, and that of functions in it; a coroutine's has a loop."""
    if code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
        return
    yield code
    for constant in code.co_consts:
        if type(constant) is CodeType:
            yield from _codes(constant)
