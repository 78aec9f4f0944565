"""How a request whose handler is to run elsewhere leaves its application quietly.

The framework has authenticated and validated the request and calls the handler. Instead of its
body an exception is raised that the framework itself turns into a response: transactions and
dependencies with `yield` roll back, hooks run, nothing is logged, and no instrument sees an error.

What can't be quiet, or rolled back:

* Code of the application between the handler and its framework that has `except Exception` sees
  an exception, and may log it. The handler's body does not run there either.
* A task group around the handler, as in a dependency of FastAPI, makes an `ExceptionGroup` of the
  exit, which Starlette answers as an error, as it does with each of its own.
* Who decides by the response, as an `after_request` of Flask that commits, sees a 202.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from raincheck.runners.asgi_exits import of_litestar, of_starlette, of_unknown
from raincheck.runners.django_exits import django_response, of_django
from raincheck.runners.handed_over import STATUS, HandedOver, is_exit
from raincheck.runners.loaded import is_a, loaded
from raincheck.runners.wsgi_exits import of_bottle, of_falcon, of_flask, of_pyramid, of_werkzeug

__all__ = ["HandedOver", "django_response", "is_exit", "native_exit"]

_Way = Callable[[Any], HandedOver]

# What a handler is called with tells the most: applications may be mounted in one another.
_BY_REQUEST: list[tuple[str, str, _Way]] = [
    ("rest_framework.request", "Request", of_django),
    ("django.http.request", "HttpRequest", of_django),
    ("litestar.connection", "ASGIConnection", lambda request: of_litestar(request.scope)),
    ("starlette.requests", "HTTPConnection", lambda request: of_starlette(request.scope)),
    ("falcon.request", "Request", lambda request: of_falcon()),
    ("pyramid.request", "Request", lambda request: of_pyramid()),
]
_BY_APPLICATION: list[tuple[str, str, _Way]] = [
    ("litestar", "Litestar", of_litestar),
    ("starlette.applications", "Starlette", of_starlette),
]


def native_exit(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], source: Mapping[str, Any] | None
) -> BaseException:
    """Return what a handler raises so that its framework ends the request with a 202 of its own.

    Args:
        args: Of the handler's call.
        kwargs: Of the handler's call.
        source: The scope or environ that the application was given; None if it is not known.

    Returns:
        An exception that `is_exit` recognises. In a framework that is not known it is a plain
        `HandedOver`, with which the request ends as an error.
    """
    values = list(chain(args, kwargs.values()))
    return (
        _by_request(chain(values, _own_requests(args)))
        or _by_context(args)
        or _by_source(source or {})
        or _by_thread(values)
        or (of_unknown() if (source or {}).get("type") == "http" else None)
        or HandedOver()
    )


def _own_requests(args: tuple[Any, ...]) -> Iterator[Any]:
    """Yield the request that the instance of a class-based view keeps."""
    own = getattr(args[0], "__dict__", None) if args else None
    if type(own) is dict and "request" in own:
        yield own["request"]


def _by_request(values: Iterator[Any]) -> HandedOver | None:
    for value in values:
        for module, name, way in _BY_REQUEST:
            if is_a(value, module, name):
                return way(value)
    return None


def _by_context(args: tuple[Any, ...]) -> HandedOver | None:
    for module in ("quart", "flask"):
        has_request = loaded(module, "has_request_context")
        if has_request is not None and has_request():
            return of_flask(module, args)
    return None


def _by_source(source: Mapping[str, Any]) -> HandedOver | None:
    for module, name, way in _BY_APPLICATION:
        if is_a(source.get("app"), module, name):
            return way(source)
    if "starlette.exception_handlers" in source:  # of an application built upon it, as Connexion's
        return of_starlette(source)
    if is_a(source.get("bottle.app"), "bottle", "Bottle"):
        return of_bottle()
    return None


def _by_thread(values: list[Any]) -> HandedOver | None:
    current = loaded("pyramid.threadlocal", "get_current_request")
    if current is not None and current() is not None:
        return of_pyramid()
    if any(is_a(value, "werkzeug.wrappers", "Request") for value in values):
        return of_werkzeug(loaded("werkzeug.wrappers", "Response")(status=STATUS))
    return None
