"""The lifespan of the application that this one is mounted in, and the end of a server.

What is mounted is not told of a lifespan. But while there is one, some task waits in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from inspect import iscoroutinefunction
from itertools import pairwise
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from raincheck.asgi.thread_waits import frames_of

if TYPE_CHECKING:
    from starlette.types import Receive, Scope


class Lifespan(NamedTuple):
    """One that goes on.

    Attributes:
        scope: As the server has made it, and the application filled its `state`.
        receive: The server's.
    """

    scope: Scope
    receive: Receive


def find_lifespan(coroutines: Iterable[Any], scope: Scope) -> Lifespan | None:
    """Find the lifespan that a request is within; None if that is not known.

    Args:
        coroutines: What runs in the event loop.
        scope: The request's.
    """
    found = [one for each in coroutines if (one := _lifespan_in(each)) is not None]
    for belongs in (_has_router, _has_state):
        if len(found) > 1:
            found = [one for one in found if belongs(one.scope, scope)]
    return found[0] if len(found) == 1 else None


def _lifespan_in(coroutine: Any) -> Lifespan | None:
    """Return the outermost call of an application with a lifespan."""
    arguments = (pair for frame in frames_of(coroutine) for pair in _arguments(frame))
    return next((Lifespan(*pair) for pair in arguments if _is_lifespan(*pair)), None)


def _arguments(frame: FrameType) -> Iterator[tuple[Any, Any]]:
    code, values = frame.f_code, frame.f_locals
    names = code.co_varnames[: code.co_argcount]
    return pairwise(values.get(name) for name in names)


def _is_lifespan(scope: Any, receive: Any) -> bool:
    return isinstance(scope, dict) and scope.get("type") == "lifespan" and callable(receive)


def _has_router(lifespan: Scope, scope: Scope) -> bool:
    return lifespan.get("router") is scope.get("router")  # Starlette's and FastAPI's outermost


def _has_state(lifespan: Scope, scope: Scope) -> bool:
    state = scope.get("state") or {}
    return all(state.get(name) is one for name, one in (lifespan.get("state") or {}).items())


def drain_with_the_server(drain: Callable[[], Awaitable[None]], receive: Receive) -> bool:
    """Drain before a server ends that says so to no application here; tell whether it will.

    `receive` is a method of what speaks the lifespan protocol for uvicorn, hypercorn, granian and
    gunicorn; this object is told to shut down, in any case and before everything else is.
    """
    speaker: Any = getattr(receive, "__self__", None)
    for name in ("shutdown", "wait_for_shutdown"):
        shut_down: Any = getattr(speaker, name, None)
        if iscoroutinefunction(_innermost(shut_down)):
            if not _drains(shut_down, drain):
                setattr(speaker, name, partial(_drain_and, drain, shut_down))
            return True
    return False


def _innermost(function: Any) -> Any:
    """Return a server's own function, around which middlewares of ours may have put theirs."""
    while isinstance(function, partial):
        function = function.args[1] if function.func is _drain_and else function.func
    return function


def _drains(function: Any, drain: Callable[[], Awaitable[None]]) -> bool:
    """Tell whether a drain has been put around a server's function already."""
    while isinstance(function, partial) and function.func is _drain_and:
        if function.args[0] == drain:
            return True
        function = function.args[1]
    return False


async def _drain_and(
    drain: Callable[[], Awaitable[None]], shut_down: Callable[[], Awaitable[None]]
) -> None:
    await drain()
    await shut_down()
