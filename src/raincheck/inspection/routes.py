"""Whether polls come to the middleware: what is mounted is only given what is routed there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raincheck.inspection import find_directory
from raincheck.inspection.complaint import Complaint
from raincheck.inspection.doors import DEPTH, Door, default_door, doors, is_dispatcher
from raincheck.inspection.layers import is_of, is_ours, layers, option, unfolded

PREFIX, ID = "/operations", "0" * 32  # where R is by default, and whose
TAKEN = "another route takes it before RaincheckMiddleware sees it, so that no poll is answered"
OTHER_PREFIX = "Route it there, or give the option `prefix` a path that nothing else takes"
ROUTED_ONLY = (
    "RaincheckMiddleware is in Litestar's `middleware`, which is called for known routes only, so "
    "that no poll is answered"
)
AROUND = "Put it around the whole: app = RaincheckMiddleware(Litestar(...))"
NOT_MOUNTED = "the option `status_url` says that the application answers polls, but it has no route"
# What makes the routes that a `status_url` of ours needs.
MADE_BY = {"raincheck.starlette": "monitor_routes()", "raincheck.flask": "monitor_blueprint()"}


def misrouted(app: object) -> Iterator[Complaint]:
    """Yield which polls can be seen never to come to a middleware of ours."""
    yield from _behind(app, [], DEPTH)
    for layer in layers(app):
        if is_of(layer, "litestar", "Litestar"):
            added = getattr(layer, "middleware", ())
            if any(is_ours(getattr(each, "middleware", each)) for each in added):
                yield Complaint("no-route", "application", ROUTED_ONLY, AROUND)


def _behind(app: object, way: list[Door], depth: int) -> Iterator[Complaint]:
    here = list(way)
    for layer, given in unfolded(app):
        if is_dispatcher(layer):
            here.append(default_door(layer))
        elif is_ours(layer):
            yield from _unanswered(app, layer, given, here)
    for door in doors(app) if depth else ():
        yield from _behind(door.app, [*way, door], depth - 1)


def _unanswered(
    app: object, ours: object, given: Mapping[str, Any], way: list[Door]
) -> Iterator[Complaint]:
    status_url = option(ours, given, "status_url")
    if status_url is not None:
        yield from _unmounted(app, status_url)
        return
    path = f"{option(ours, given, 'prefix') or PREFIX}/{ID}"
    for door in reversed(way):
        path = door.prefix + path
        if not door.leads(path):
            where = f"GET {path.replace(ID, '{operation_id}')}"
            yield Complaint("no-route", where, TAKEN, OTHER_PREFIX)
            return


def _unmounted(app: object, status_url: object) -> Iterator[Complaint]:
    module = getattr(status_url, "__module__", "")
    directory = find_directory(app)
    if module not in MADE_BY or directory is None:
        return
    if not any(getattr(each.handler, "__module__", "") == module for each in directory.all()):
        advice = f"Mount {MADE_BY[module]}, or leave `status_url` out"
        yield Complaint("no-route", "application", NOT_MOUNTED, advice)
