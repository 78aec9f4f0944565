"""The start-up check: finds marks without effect, and what is around raincheck in the wrong order.

What it complains about is silent otherwise: the application works, only not as it was meant to.
No handler or middleware is run.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from raincheck.config.application import has_own_store
from raincheck.config.policy import NEVER_DEFERRED, Policy
from raincheck.handler import may_be_handed_over
from raincheck.inspection import Directory, Endpoint, find_directory, leads_to_mark
from raincheck.inspection.complaint import Complaint
from raincheck.inspection.django import django_policy
from raincheck.inspection.guards import guard_behind_mark, innermost
from raincheck.inspection.layers import is_of, is_ours, layers
from raincheck.inspection.main_thread import bound_to_main_thread
from raincheck.inspection.marks import bypassed
from raincheck.inspection.middleware_order import misplaced
from raincheck.inspection.routes import misrouted
from raincheck.inspection.task_state import keeps_for_tasks
from raincheck.operations.store import Liveness

ANY = ("GET", "POST", "PUT", "PATCH", "DELETE")
MOUNTS = 8  # applications in applications
TARGET = re.compile(r"(?P<module>\w+(\.\w+)*):(?P<name>\w+(\.\w+)*)(?P<call>\(\))?")
UNNAMED = (
    "other services may use its store, and may be taken for this one; and one that is deployed to "
    "another directory knows nothing of the operations from before"
)
HIDDEN = (
    "handlers are left to workers, but no store is named, and the default one is only for what is "
    "started by the same words: workers of an engine, and servers with a configuration file, a "
    "factory or a program of their own, have another one"
)
NAME_STORE = (
    "Give RAINCHECK_STORE, such as sqlite:///srv/operations.db, or the option `store` to both"
)
NAME_IT = "Give the option `application` a name that is this service's own"
IN_ANY_THREAD = (
    "Use what works in any thread (asyncio.run(), a timeout without signals), or name its path in "
    "the option `exclude`"
)
INSIDE = "Put it inside RaincheckMiddleware (add it first), or key by a context variable"
DIRECTLY = "Put it directly above the function, below all other decorators"


@dataclass(frozen=True, slots=True)
class Report:
    """What the check has found.

    Attributes:
        handlers: How many endpoints the application has.
        marked: How many of them lead to a mark.
        complaints: What is wrong.
    """

    handlers: int
    marked: int
    complaints: list[Complaint]

    def __str__(self) -> str:
        problems = _count(len(self.complaints), "problem")
        last = f"{_count(self.handlers, 'handler')}, {self.marked} marked, {problems}"
        return "\n".join([*map(str, self.complaints), last])


class NotLoadedError(Exception):
    """The application can't be loaded; its cause, if there is one, is the application's own."""


def check(app: object) -> Report | None:
    """Check an application; None if its framework is not known.

    Args:
        app: A WSGI or ASGI application.
    """
    directory = find_directory(app)
    if directory is None:
        return None
    endpoints = list(directory.all())
    marked = sum(_is_marked(endpoint) for endpoint in endpoints)
    found = complaints(directory)
    if marked and not _is_served(app):
        found.append(_unserved(marked))
    for policy in _policies(app, directory):
        found += main_thread_complaints(directory, policy)
    if any(is_unnamed(**options) for options in _options(app)):
        found.append(Complaint("no-name", "application", UNNAMED, NAME_IT))
    if any(is_hidden(**options) for options in _options(app)):
        found.append(Complaint("no-store", "application", HIDDEN, NAME_STORE))
    found += [_kept_for_task(*one) for one in keeps_for_tasks(app)]
    found += [*misplaced(app), *misrouted(app)]
    return Report(len(endpoints), marked, found)


def complaints(directory: Directory) -> list[Complaint]:
    """Return what is wrong with the marks of an application's handlers."""
    endpoints = list(directory.all())
    # A function may be meant to be called both with its mark and without.
    elsewhere = {
        id(function)
        for endpoint in endpoints
        for method in _methods(endpoint)
        if leads_to_mark(endpoint.handler, method)
        for function in bypassed(endpoint.handler, method)
    }
    found: dict[object, Complaint] = {}  # one for each function, however many routes it has
    for endpoint in endpoints:
        for method in _methods(endpoint):
            for function, complaint in _complaints(endpoint, method):
                if complaint.code != "no-effect" or id(function) not in elsewhere:
                    found.setdefault((complaint.code, id(function)), complaint)
    return list(found.values())


def main_thread_complaints(directory: Directory, policy: Policy) -> list[Complaint]:
    """Return which handlers a server of one thread would have to call in that one."""
    found: dict[object, Complaint] = {}
    for endpoint in directory.all():
        for method in _methods(endpoint):
            name = bound_to_main_thread(endpoint.handler, method)
            if name is not None and _may_be_deferred(endpoint, method, policy):
                function = innermost(endpoint.handler)
                found.setdefault(id(function), _in_main_thread(endpoint, function, name))
    return list(found.values())


def is_unnamed(store: object = None, application: str | None = None, **_: object) -> bool:
    """Tell whether a service may be taken for another one that uses the same store.

    Args:
        store: The option of that name, as is the other.
    """
    store = os.environ.get("RAINCHECK_STORE") if store is None else store
    if application is not None or store is None or isinstance(store, Liveness):
        return False
    return not (isinstance(store, str) and store.startswith("memory:"))


def is_hidden(
    store: object = None, runners: object = None, workers: object = None, **_: object
) -> bool:
    """Tell whether workers may look for operations elsewhere than where they are.

    Args:
        store: The option of that name, as are the others.
    """
    is_for_workers = bool(runners) or bool(workers) or may_be_handed_over()
    return is_for_workers and has_own_store(store)


def load(target: str) -> object:
    """Import an application as servers do.

    Args:
        target: `module:app` or `module:factory()`.

    Raises:
        NotLoadedError: There is no such thing, or it fails.
    """
    match = TARGET.fullmatch(target)
    if match is None:
        raise NotLoadedError(f"{target!r} names no application: write module:app")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: Any = _import(match["module"])
    for name in match["name"].split("."):
        if not hasattr(found, name):
            raise NotLoadedError(f"There is no {match['name']} in the module {match['module']}")
        found = getattr(found, name)
    return _call(found, target) if match["call"] else found


def _import(module: str) -> object:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise NotLoadedError(f"There is no module {error.name} in {os.getcwd()}") from None
        raise NotLoadedError(f"The module {module} can't be imported") from error
    except (Exception, SystemExit) as error:
        raise NotLoadedError(f"The module {module} can't be imported") from error


def _call(factory: Any, target: str) -> object:
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise NotLoadedError(f"{target} fails") from error


def _methods(endpoint: Endpoint) -> Iterable[str]:
    return sorted(endpoint.methods - NEVER_DEFERRED) if endpoint.methods else ANY


def _may_be_deferred(endpoint: Endpoint, method: str, policy: Policy) -> bool:
    """Tell whether an endpoint's requests may be; its path is looked at as it is routed."""
    decision = policy.unasked["/" + endpoint.where.lstrip("/")]
    if decision is None:
        return False
    return decision.budget is not None or leads_to_mark(endpoint.handler, method)


def _is_marked(endpoint: Endpoint) -> bool:
    return any(leads_to_mark(endpoint.handler, method) for method in _methods(endpoint))


def _complaints(endpoint: Endpoint, method: str) -> Iterator[tuple[object, Complaint]]:
    if leads_to_mark(endpoint.handler, method):
        behind = guard_behind_mark(endpoint.handler, method)
        if behind is not None:
            yield innermost(behind[0]), _before_authentication(endpoint, *behind)
        return
    for function in bypassed(endpoint.handler, method):
        yield function, _no_effect(endpoint, function)


def _no_effect(endpoint: Endpoint, function: FunctionType) -> Complaint:
    what = (
        f"@long_running has no effect on {function.__qualname__}(): it stands above the "
        "framework's decorator, which has registered the function without it"
    )
    return Complaint("no-effect", _where(endpoint, function), what, DIRECTLY)


def _before_authentication(endpoint: Endpoint, mark: FunctionType, guard: str) -> Complaint:
    what = f"@long_running stands above what {guard} checks, so that strangers get a 202"
    return Complaint("before-authentication", _where(endpoint, innermost(mark)), what, DIRECTLY)


def _in_main_thread(endpoint: Endpoint, function: Any, name: str) -> Complaint:
    what = f"{name} works in the main thread only, so there it is never deferred, marked or not"
    return Complaint("main-thread", _where(endpoint, function), what, IN_ANY_THREAD)


def _unserved(marked: int) -> Complaint:
    are, them = ("is", "it") if marked == 1 else ("are", "them")
    handlers = _count(marked, "handler")
    what = f"{handlers} {are} marked, but no RaincheckMiddleware is around {them}"
    advice = "Add it to the application, or check the object that your server is given"
    return Complaint("no-middleware", "application", what, advice)


def _kept_for_task(function: Any, name: str) -> Complaint:
    code = function.__code__
    where = f"{function.__qualname__} ({_shown(code.co_filename)}:{code.co_firstlineno})"
    what = (
        f"{name} is of the current task, and this middleware is outside raincheck, which runs "
        "handlers in a task of their own: what they open there is never closed, fast or slow"
    )
    return Complaint("task-state", where, what, INSIDE)


def _where(endpoint: Endpoint, function: Any) -> str:
    methods = ",".join(sorted(endpoint.methods - NEVER_DEFERRED))
    route = f"{methods} {endpoint.where}".lstrip()
    code = getattr(function, "__code__", None)
    if code is None:
        return route
    return f"{route} ({_shown(code.co_filename)}:{code.co_firstlineno})"


def _shown(path: str) -> str:
    """Return a path as short as it can be written from here."""
    below = os.path.join(os.getcwd(), "")
    return path.removeprefix(below)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_LOOKED_AT = ("store", "application", "runners", "workers")


def _options(app: object) -> Iterator[dict[str, Any]]:
    """Yield the options of each middleware of ours, whether it has been made or will be."""
    for layer in layers(app):
        if isinstance(layer, type) or not hasattr(layer, "__dict__"):
            continue
        if is_ours(layer):
            settings = vars(layer)["_gateway"].engine.settings
            yield {name: getattr(settings, name) for name in _LOOKED_AT}
        for middleware in vars(layer).get("user_middleware", ()):  # Starlette's
            if is_ours(getattr(middleware, "cls", None)):
                yield middleware.kwargs


def _policies(app: object, directory: Directory) -> Iterator[Policy]:
    """Yield what the middlewares of ours decide by, under WSGI."""
    for layer in layers(app):
        if is_ours(layer) and is_of(layer, "wsgi", "RaincheckMiddleware"):
            yield vars(layer)["_policy"]
        if is_of(layer, "django", "WSGIHandler") and any(map(is_ours, directory.middlewares())):
            yield django_policy()


def _is_served(app: object, mounts: int = MOUNTS) -> bool:
    """Tell whether a middleware of ours is around an application, or in it."""
    if any(is_ours(layer) for layer in layers(app)):
        return True
    directory = find_directory(app)
    if directory is None or not mounts:
        return False
    return any(
        is_ours(middleware) or _is_served(middleware, mounts - 1)
        for middleware in directory.middlewares()
    )
