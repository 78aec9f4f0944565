"""What Flask's `after_request` functions add to responses of raincheck's own.

CORS, security headers and their kin are such functions. They see a stand-in without a body: they
may add header fields, and the response itself stays as it was recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from itertools import chain
from typing import TYPE_CHECKING, Any

from raincheck.http.messages import Headers, Response
from raincheck.inspection.layers import is_of
from raincheck.wsgi.translation import from_wsgi_headers, to_wsgi_headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

logger = logging.getLogger("raincheck")

Hooks = Callable[["WSGIEnvironment", Response], Response]
_OF_THE_BODY = {"content-length", "content-type", "content-encoding", "etag"}  # the stand-in's
_REPEATED = {"vary", "set-cookie"}


def hooks_of(app: Any) -> Hooks | None:
    """Return what finishes the responses of the application that is called; None: nothing does.

    Args:
        app: What the middleware is immediately around.
    """
    owner = getattr(app, "__self__", app)
    return _FlaskHooks(owner) if is_of(owner, "flask", "Flask") else None


class _FlaskHooks:
    """Calls the functions in a request context of their own, from which no session is saved."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._failed = set[Any]()  # has been said of them

    def __call__(self, environ: WSGIEnvironment, response: Response) -> Response:
        """Return the response with what the functions add to it."""
        new: Headers = ()
        try:
            with self._app.request_context(without_body(environ)) as context:
                new = self._added(context.request, response)
        except Exception as error:  # of a function at the end of each request, it may be
            self._complain("a request context", error)
        return replace(response, headers=response.headers + new)

    def _added(self, request: Any, response: Response) -> Headers:
        before = to_wsgi_headers(response.headers)
        shown = self._app.response_class(status=response.status, headers=before)
        for function in self._functions(request):
            try:
                shown = self._app.ensure_sync(function)(shown)
            except Exception as error:  # it may need what only `before_request` prepares
                self._complain(function, error)
        return from_wsgi_headers(added(before, list(shown.headers)))

    def _complain(self, what: Any, error: Exception) -> None:
        """Log it once: what was promised, or has happened, has to be told all the same."""
        if what not in self._failed:
            self._failed.add(what)
            logger.error("%r failed for a response of raincheck's own", what, exc_info=error)

    def _functions(self, request: Any) -> Iterator[Callable[[Any], Any]]:
        """Yield them in Flask's own order: the last to be registered is the first to be called."""
        for name in chain(request.blueprints, (None,)):
            yield from reversed(self._app.after_request_funcs.get(name, ()))


def added(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the header fields that have been added, and not those that were there, changed."""
    known = {name.lower() for name, _ in before}
    new = [field for field in after if field not in before]
    return [
        (name, value)
        for name, value in new
        if name.lower() in _REPEATED or name.lower() not in known | _OF_THE_BODY
    ]


def without_body(environ: WSGIEnvironment) -> WSGIEnvironment:
    """Return a copy that can be read by others than the handler: the body is the handler's."""
    return environ | {"wsgi.input": BytesIO(), "CONTENT_LENGTH": "0"}
