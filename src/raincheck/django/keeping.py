"""What Django closes with the response to a request, kept open for a handler that goes on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.handlers.asgi import ASGIRequest

if TYPE_CHECKING:
    from django.http import HttpRequest


class Kept:
    """Things whose `close` is called by whoever believes that the request is over."""

    def __init__(self) -> None:
        self._things: list[Any] = []
        self._closers: list[Callable[[], None]] = []  # called meanwhile, and not heeded yet

    def keep(self, thing: Any) -> None:
        """Have `thing.close()` do nothing until `close` or `let_go` is called."""
        self._things.append(thing)
        thing.close = partial(self._closers.append, thing.close)

    def close(self) -> None:
        """Close everything that was kept."""
        for thing in self.let_go():
            thing.close()

    def let_go(self) -> list[Any]:
        """Leave what was kept to whoever closes it, or has wanted to; return it."""
        things, self._things = self._things, []
        for thing in things:
            del thing.close
        while self._closers:
            self._closers.pop()()
        return things


def keep_for_handler(request: HttpRequest) -> Kept:
    """Keep uploaded files and, under ASGI, the body as Django has spooled it."""
    kept = Kept()
    kept.keep(request)
    if isinstance(request, ASGIRequest):
        kept.keep(request._stream)
    return kept
