"""What Django closes with the response to a request, kept open for a handler that goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.core.handlers.asgi import ASGIRequest

if TYPE_CHECKING:
    from django.http import HttpRequest


class Kept:
    """Things whose `close` is called by whoever believes that the request is over."""

    def __init__(self) -> None:
        self._closers: list[Callable[[], None]] = []

    def keep(self, thing: Any) -> None:
        """Have `thing.close()` do nothing until `close` is called."""
        self._closers.append(thing.close)
        thing.close = _not_yet

    def close(self) -> None:
        """Close everything that was kept."""
        while self._closers:
            self._closers.pop()()


def _not_yet() -> None:
    """Stand in for the `close` of something that is still used."""


def keep_for_handler(request: HttpRequest) -> Kept:
    """Keep uploaded files and, under ASGI, the body as Django has spooled it."""
    kept = Kept()
    kept.keep(request)
    if isinstance(request, ASGIRequest):
        kept.keep(request._stream)
    return kept
