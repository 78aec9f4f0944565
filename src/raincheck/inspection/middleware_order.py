"""What is around the middleware and what is inside of it, where that decides what works.

Told by names, as nothing is imported or run for it: other packages than those named here are seen
if they call their classes alike.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from raincheck.inspection.complaint import Complaint
from raincheck.inspection.doors import DEPTH, Door, doors, is_dispatcher
from raincheck.inspection.layers import is_of, is_ours, unfolded
from raincheck.inspection.looking import attribute_of_class, attributes

CORS = re.compile("CORS|Cors")
COMPRESSION = re.compile("gzip|brotli|zstd|deflate|(?<!de)compress", re.IGNORECASE)
OTEL, OTEL_FLASK = "opentelemetry.instrumentation", "opentelemetry.instrumentation.flask"
OTEL_STARLETTE = "starlette.middleware.opentelemetry"  # one span for each request
SENTRY = "sentry_sdk"
ADD_FIRST = "Put it inside RaincheckMiddleware: add it first"
ADD_FIRST_OR_PLAIN = f"{ADD_FIRST}; or, if it is for the 202 and the polls, make it plain ASGI"
NO_CORS = (
    "it is inside RaincheckMiddleware, so the 202 and the polls lack the fields that it adds, and "
    "browsers can't read them"
)
CORS_OUTSIDE = "Put it around RaincheckMiddleware: add it later, or wrap it around the whole"
COMPRESSED = (
    "it is around RaincheckMiddleware, which offers ranges of R: they are of its bytes as they "
    "are, and a client that goes on with a compressed R mixes the two"
)
SEES_202 = (
    "it is around RaincheckMiddleware, so what it does after call_next() is done for the 202 and "
    "for each poll, and not for the handler's response"
)
NO_SPAN = (
    "OpenTelemetry is only around RaincheckMiddleware, so its span ends with the 202, and what the "
    "handler raises after it is on no span"
)
SPAN_INSIDE = "Put OpenTelemetry's own middleware inside, too: its span is in the same trace"
NO_STATUS = (
    "FlaskInstrumentor was there after Raincheck, so that its spans have no status, and its "
    "metrics no requests"
)
INSTRUMENT_FIRST = "Instrument the application first, then call Raincheck(app)"
NO_TRANSACTION = (
    "Sentry is around RaincheckMiddleware, so its transaction ends with the 202, and it loses the "
    "spans of the handler after it"
)
AROUND_ALL = "Wrap the application instead: app = RaincheckMiddleware(app)"
LABELS = "each operation's URL becomes a label of its metrics, as of every path without a route"
# The modules of instruments, the option that has them count each unrouted path for itself where it
# is False, and the one that keeps them from it nevertheless.
LABELLING = {
    "starlette_exporter": ("filter_unhandled_paths", "group_unhandled_paths"),
    "prometheus_fastapi_instrumentator": ("should_group_untemplated", "should_ignore_untemplated"),
}

FLASK_EXPORTER = "prometheus_flask_exporter"
LABELS_OF_FLASK = "monitor_blueprint() is counted by path, so each operation's URL becomes a label"

GROUP_BY = 'Give it group_by="url_rule"'


class Layer(NamedTuple):
    """An object, a class or a function that requests pass, and what it was given."""

    thing: Any
    given: Mapping[str, Any]

    @property
    def cls(self) -> type:
        """Its class."""
        return self.thing if isinstance(self.thing, type) else type(self.thing)

    @property
    def module(self) -> str:
        """The name of the module whose code it runs."""
        if isinstance(self.thing, FunctionType):
            return str(self.thing.__globals__.get("__name__"))
        return self.cls.__module__

    @property
    def where(self) -> str:
        """How people call it."""
        function = self.given.get("dispatch", self.thing)
        if isinstance(function, FunctionType):
            return f"{function.__module__}.{function.__qualname__}()"
        return f"{self.cls.__module__}.{self.cls.__qualname__}"

    def is_a(self, package: str, name: str) -> bool:
        """Tell whether it is of that class of that package, or derived from it."""
        mro = self.cls.__mro__
        return any(b.__name__ == name and package in b.__module__.split(".") for b in mro)

    def is_from(self, module: str) -> bool:
        """Tell whether its code is in that module, or below it."""
        return f"{self.module}.".startswith(f"{module}.")


def misplaced(app: object) -> Iterator[Complaint]:
    """Yield what is on the wrong side of a middleware of ours."""
    found: dict[tuple[str, str], Complaint] = {}
    for outside, inside in _sides(app, [], DEPTH):
        for complaint in _complaints(outside, inside):
            found.setdefault((complaint.code, complaint.where), complaint)
    yield from found.values()


def _complaints(outside: list[Layer], inside: list[Layer]) -> Iterator[Complaint]:
    if not any(CORS.search(layer.cls.__name__) for layer in outside):
        for layer in inside:
            if CORS.search(layer.cls.__name__):
                yield Complaint("cors", layer.where, NO_CORS, CORS_OUTSIDE)
    for layer in outside:
        if COMPRESSION.search(layer.cls.__name__):
            yield Complaint("compression", layer.where, COMPRESSED, ADD_FIRST)
        if layer.is_a("starlette", "BaseHTTPMiddleware"):
            yield Complaint("base-http", layer.where, SEES_202, ADD_FIRST_OR_PLAIN)
    yield from _instruments(outside, inside)
    yield from _labels(outside)
    for layer in (*outside, *inside):
        if layer.is_a("flask", "Flask") and _is_counted_by_path(layer.thing):
            yield Complaint("labels", FLASK_EXPORTER, LABELS_OF_FLASK, GROUP_BY)


def _instruments(outside: list[Layer], inside: list[Layer]) -> Iterator[Complaint]:
    if _has(outside, OTEL_FLASK):
        yield Complaint("instrument", OTEL_FLASK, NO_STATUS, INSTRUMENT_FIRST)
    elif _has(outside, OTEL_STARLETTE) and not _has(inside, OTEL):
        yield Complaint("instrument", OTEL_STARLETTE, NO_SPAN, SPAN_INSIDE)
    elif _has(outside, OTEL) and not (_has(inside, OTEL) or _has(inside, OTEL_STARLETTE)):
        yield Complaint("instrument", OTEL, NO_SPAN, SPAN_INSIDE)
    if _sentry_traces() and _has(outside, SENTRY):
        yield Complaint("instrument", SENTRY, NO_TRANSACTION, AROUND_ALL)


def _has(layers: list[Layer], module: str) -> bool:
    return any(layer.is_from(module) for layer in layers)


def _sentry_traces() -> bool:
    sentry: Any = sys.modules.get(SENTRY)
    if sentry is None:
        return False
    options = sentry.get_client().options
    return bool(options.get("traces_sample_rate") or options.get("traces_sampler"))


def _labels(outside: list[Layer]) -> Iterator[Complaint]:
    for layer in outside:
        for module, (grouping, saving) in LABELLING.items():
            is_off = layer.given.get(grouping) is False and not layer.given.get(saving)
            if is_off and layer.is_from(module):
                yield Complaint("labels", layer.where, LABELS, f"Leave {grouping} as it is")


def _is_counted_by_path(app: Any) -> bool:
    """Tell whether an application of Flask routes polls, and an exporter counts them by path."""
    views = app.view_functions.values()
    return any(getattr(view, "__module__", "") == "raincheck.flask" for view in views) and any(
        getattr(function, "__module__", "") == FLASK_EXPORTER
        and _cells(function).get("duration_group") == "path"
        for function in app.after_request_funcs.get(None, ())
    )


def _cells(function: Any) -> Mapping[str, Any]:
    return inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}


def _sides(
    app: object, outside: list[Layer], depth: int
) -> Iterator[tuple[list[Layer], list[Layer]]]:
    """Yield what is outside and what inside of each outermost middleware of ours."""
    here = list(_stack(app))
    for n, layer in enumerate(here):
        if is_ours(layer.thing):
            around = app if isinstance(layer.thing, type) else layer.thing
            mounted = [inner for door in doors(around) for inner in _stack(door.app)]
            yield [*outside, *here[:n]], [*here[n + 1 :], *mounted]
            return
    for door in doors(app) if depth else ():
        yield from _sides(door.app, [*outside, *_around(door, here)], depth - 1)


def _around(door: Door, here: list[Layer]) -> list[Layer]:
    if not is_dispatcher(door.holder):
        return here
    return here[: [layer.thing for layer in here].index(door.holder)]


def _stack(app: object) -> Iterator[Layer]:
    for thing, given in unfolded(app):
        if not isinstance(thing, type):
            yield from (Layer(function, {}) for function in _patches(thing))
        yield Layer(thing, given)


def _patches(thing: object) -> Iterator[FunctionType]:
    """Yield what instruments have put in the place of an application's own methods."""
    if is_of(thing, "starlette", "Starlette") or is_of(thing, "flask", "Flask"):
        stack = attributes(thing).get("build_middleware_stack")
        call = attribute_of_class(type(thing), "__call__")
        for each in (call, stack.__func__ if isinstance(stack, MethodType) else stack):
            if isinstance(each, FunctionType):
                yield each
