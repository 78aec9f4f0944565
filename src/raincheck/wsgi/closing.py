"""What is left to do with an application's iterable when it was iterated: its `close()`.

It is called in the handler's thread, when the server wants it, which waits for it: two changes of
threads. There are none where `close()` has nothing to do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from types import GeneratorType
from typing import Any, TypeGuard

_IN_MEMORY = (list, tuple)
_ITERATORS: tuple[type, ...] = (type(iter([])), type(iter(())))


def wants_close(result: Iterable[bytes]) -> bool:
    """Tell whether its end is more than the end of its iteration."""
    if isinstance(result, GeneratorType):
        return result.gi_frame is not None  # else it has ended
    return hasattr(result, "close")


def close(result: Iterable[bytes]) -> BaseException | None:
    """Close an iterable if it can be; return what that has raised."""
    try:
        if hasattr(result, "close"):
            result.close()
    except BaseException as error:
        return error
    return None


def is_plain(result: Iterable[bytes]) -> TypeGuard[Sequence[bytes]]:
    """Tell whether it is in memory and has no `close()`, which subclasses may have."""
    return type(result) in _IN_MEMORY


def is_of_memory(result: Any) -> bool:
    """Tell whether it only iterates what is in memory, and its `close()` does nothing.

    Werkzeug, and Flask with it, returns each response so. A response that streams, or is asked to
    call something when it is closed, is none of these; nor is what can't be recognized.
    """
    if type(result).__module__ != "werkzeug.wsgi":
        return False
    try:
        known = sys.modules["werkzeug.wrappers.response"]
        source, callbacks = result._next.args[0], result._callbacks
        response, called = callbacks[-1].__self__, callbacks[-1].__func__
        is_idle = called is known.Response.close and response._on_close == []
        if not is_idle or type(response.response) not in _IN_MEMORY:
            return False
        if type(source) is not GeneratorType:
            return type(source) in _ITERATORS and len(callbacks) == 1
        is_its_own = source.gi_code is known._iter_encoded.__code__
        is_its_own = is_its_own and callbacks == [source.close, callbacks[-1]]
        frame = source.gi_frame  # none at its end
        return is_its_own and (frame is None or frame.f_locals["iterable"] is response.response)
    except (AttributeError, IndexError, KeyError, TypeError):
        return False
