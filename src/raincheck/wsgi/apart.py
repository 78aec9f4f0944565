"""A request that begins in the context of another one's handler, but is no part of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING

from raincheck.handler import CURRENT

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def apart(
    application: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Call an application where no request is being handled, and iterate its response there."""
    context = copy_context()
    context.run(CURRENT.set, None)
    result = context.run(application, environ, start_response)
    return result if type(result) in (list, tuple) else _Apart(context, result)


class _Apart:
    def __init__(self, context: Context, result: Iterable[bytes]) -> None:
        self._context = context
        self._result = result
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> _Apart:
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = self._context.run(iter, self._result)
        return self._context.run(next, self._iterator)

    def close(self) -> None:
        """Close the response, if it can be closed."""
        close = getattr(self._result, "close", None)
        if close is not None:
            self._context.run(close)
