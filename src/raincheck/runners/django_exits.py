"""How a request ends quietly in Django, REST framework and Ninja.

Only what is raised rolls back each `atomic`, and only what a middleware answers is not logged. So
the exception has to pass what else would answer it: REST framework and Ninja are told to let it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from raincheck.runners.handed_over import STATUS, HandedOver, HandedOverByDjango, is_exit
from raincheck.runners.loaded import is_a, loaded


def of_django(request: Any) -> HandedOver:
    """Return what passes through all of Django, up to `django_response`.

    Args:
        request: Django's or REST framework's.
    """
    if is_a(request, "rest_framework.request", "Request"):
        _pass_through_rest_framework((request.parser_context or {}).get("view"))
    elif is_a(request, "django.http.request", "HttpRequest"):
        _pass_through_ninja(request.resolver_match)
    return HandedOverByDjango()


def django_response(exception: BaseException) -> Any:
    """Return what a Django middleware's `process_exception` answers.

    Those of middleware within it are asked before, and see the exception.

    Args:
        exception: That it was called with.

    Returns:
        An `HttpResponse` with status 202; None if it is not about a request that is handed over.
    """
    if not is_exit(exception):
        return None
    return loaded("django.http", "HttpResponse")(status=STATUS)


def _pass_through_rest_framework(view: Any) -> None:
    if view is None:
        return
    handle: Callable[[Exception], Any] = view.handle_exception

    def let_pass(error: Exception) -> Any:
        if is_exit(error):
            raise error
        return handle(error)

    view.handle_exception = let_pass  # of this request's view: each has one of its own


def _pass_through_ninja(match: Any) -> None:
    for api in _apis_of(getattr(match, "func", None)):
        # With `DEBUG`, and where the application handles `Exception`, that would be called.
        api.add_exception_handler(HandedOverByDjango, _raise)


def _apis_of(view: Any) -> Iterator[Any]:
    """Yield the APIs of a view that Ninja has made: its function hides them in its closure."""
    cells = [cell.cell_contents for cell in getattr(view, "__closure__", None) or ()]
    for found in (getattr(view, "__self__", None), *cells):
        if is_a(found, "ninja.operation", "PathView"):
            yield from {id(each.api): each.api for each in found.operations}.values()


def _raise(request: Any, error: Exception) -> NoReturn:
    raise error
