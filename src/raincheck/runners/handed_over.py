"""The exception of a request whose handler is to run elsewhere, and of no other."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

STATUS = 202  # what hooks of the application see; raincheck throws the response away
TEXT = "this request is handed over to a worker, so its handler does not run here"
UNKNOWN_TEXT = (
    f"{TEXT}. Nothing has failed: but raincheck doesn't know how to end a request of this "
    "framework quietly, so it ends it with this error, whose response nobody gets to see"
)


class HandedOver(Exception):
    """Leaves a handler that a worker will run; every exit is one, whatever its framework."""

    def __str__(self) -> str:
        return UNKNOWN_TEXT if type(self) is HandedOver else super().__str__()


class HandedOverByDjango(HandedOver):
    """Has no response of its own: raincheck's Django middleware has it, see `django_response`."""

    def __str__(self) -> str:
        return TEXT


@cache
def exit_like(native: type[Exception]) -> Any:
    """Return the class of exits that a framework takes for its own exception."""
    # The framework's comes first: Pyramid and Starlette look for handlers in this order.
    return type(HandedOver.__name__, (native, HandedOver), {"__module__": __name__})


def is_exit(error: BaseException) -> bool:
    """Tell whether a request was handed over, by what has come out of the application.

    Args:
        error: May be a group that holds the exit, or have been raised because of it.
    """
    return any(isinstance(each, HandedOver) for each in _all_of(error))


def _all_of(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(each.exceptions)
        if each.__cause__ is not None:
            waiting.append(each.__cause__)
