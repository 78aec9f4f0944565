"""`@long_running`: what marks a handler, for any framework."""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from raincheck.handler.marking import Marking, know, may_be_repeatable
from raincheck.handler.request import CURRENT, Deferrable

if TYPE_CHECKING:
    from datetime import datetime

    from anyio import CapacityLimiter
    from anyio.lowlevel import RunVar

# The attribute says which of two functions one has. Decorators above copy it (functools.wraps).
MARK = "__raincheck__"
EFFECTIVE = "marked"  # the function that `long_running` returned
BYPASSED = "marked, but without effect here"  # the one that it was given
_MARKS_AT_ONCE = 16  # in one event loop, where they have to be recorded


_F = TypeVar("_F", bound=Callable[..., Any])


@overload
def long_running(handler: _F, /) -> _F: ...
@overload
def long_running(
    *,
    retry: bool | None = None,
    timeout: float | None = None,
    runner: str | None = None,
    queue: str | None = None,
    not_before: Callable[[], datetime | float] | None = None,
) -> Callable[[_F], _F]: ...
def long_running(
    handler: Any = None,
    /,
    *,
    retry: bool | None = None,
    timeout: float | None = None,
    runner: str | None = None,
    queue: str | None = None,
    not_before: Callable[[], datetime | float] | None = None,
) -> Any:
    """Mark a handler as slow: its requests are answered 202 as soon as it is called.

    Put it directly above the function, below the framework's decorators, so that authentication
    and validation come first and their 401, 403 and 422 stay what they are. Works for functions,
    methods and generators, sync and async.

    Args:
        retry: Whether the handler may be run again if its process is lost: True says that to run it
            twice does no harm, False that it would, whatever the method. Default: as the options
            say, which is: safe methods only. What a worker has not begun is not run twice.
        timeout: Seconds it may run once it was deferred. Default: as the options say.
        runner: Name of the workers that run it, instead of the process that was asked: they are
            told as the option `workers` says, or look into the store themselves
            (`python -m raincheck work`). Default: the process that was asked.
        queue: The same, for work that waits until somebody takes it up, such as once a day.
        not_before: Callable () → the moment before which workers must not begin: a `datetime` with
            a time zone, or seconds since the epoch. Default: they may at once.

    Raises:
        TypeError: What is decorated is not a function: a class, a `classmethod`, or what a
            framework's decorator made of it; or `runner` and `queue` are given, or `not_before`
            without either.
        ValueError: `timeout` is not a number of seconds above 0.
    """
    if runner is not None and queue is not None:
        raise TypeError("give a runner or a queue: each is the name under which the work waits")
    where = runner if queue is None else queue
    if not_before is not None and where is None:
        raise TypeError("not_before is for work that waits: give a queue, too")
    marking = Marking(retry, timeout, where, not_before, is_said=True)
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
    if handler is None:
        return functools.partial(_mark, marking=marking)
    return _mark(handler, marking)


def _mark(handler: Any, marking: Marking) -> Any:
    _check(handler)
    know(marking)
    wrapper = _adopt(_wrapper(handler, marking), handler)
    setattr(wrapper, MARK, EFFECTIVE)
    # Bound methods and builtins take no attributes. What is marked twice stays effective.
    if isinstance(handler, (FunctionType, functools.partial)) and not is_marked(handler):
        setattr(handler, MARK, BYPASSED)
    return wrapper


def is_marked(handler: object) -> bool:
    """Tell whether a call of this handler, or of what it wraps, is answered 202."""
    return getattr(handler, MARK, None) is EFFECTIVE


def _check(handler: Any) -> None:
    if isinstance(handler, (FunctionType, MethodType, BuiltinFunctionType, functools.partial)):
        return
    kind = handler.__name__ if isinstance(handler, type) else type(handler).__name__
    raise TypeError(
        f"@long_running can't mark {kind}: put it directly above the function, "
        "below decorators of the framework and @classmethod"
    )


def _wrapper(handler: Any, marking: Marking) -> FunctionType:
    # The bodies below may use nothing but closure variables: `_adopt` exchanges their globals.
    defer, defer_in_thread = functools.partial(_defer, marking), _defer_in_thread

    async def wait_for(*args: Any, **kwargs: Any) -> Any:
        if (may_block := defer_in_thread(marking, args, kwargs)) is None:
            defer(args, kwargs)
        else:
            await may_block
        return await handler(*args, **kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        request = defer(args, kwargs)
        if request is None:
            return handler(*args, **kwargs)
        request.enter()
        try:
            return handler(*args, **kwargs)
        finally:
            request.leave()

    def call_with(argument: Any) -> Any:
        return call(argument)

    if _is_coroutine_function(handler):
        return wait_for  # type: ignore[return-value]
    # A generator is wrapped by `call`: it would otherwise be entered after its response started.
    return call_with if _takes_one(handler) else call  # type: ignore[return-value]


def _takes_one(handler: Any) -> bool:
    """Tell whether it takes exactly one argument: Pyramid counts, and doesn't look through us."""
    import inspect  # already imported by then

    if not isinstance(handler, FunctionType) or handler.__defaults__:
        return False
    code = handler.__code__
    is_open = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    return code.co_argcount == 1 and not code.co_kwonlyargcount and not is_open


def _is_coroutine_function(handler: Any) -> bool:
    import inspect  # takes as long to import as all of raincheck that a handler needs

    from asgiref.sync import iscoroutinefunction  # so does asyncio, which this imports

    # Before 3.12 `inspect` doesn't know functions that asgiref has marked.
    return inspect.iscoroutinefunction(handler) or iscoroutinefunction(handler)


def _adopt(wrapper: FunctionType, handler: Any) -> Any:
    """Give the wrapper the handler's globals, where frameworks resolve its annotations."""
    if isinstance(handler, FunctionType):
        code = wrapper.__code__
        if code.co_argcount:  # named as theirs is: it may be passed by its name
            code = code.replace(co_varnames=handler.__code__.co_varnames[:1])
        wrapper = FunctionType(
            code,
            handler.__globals__,
            handler.__name__,
            wrapper.__defaults__,
            wrapper.__closure__,
        )
    functools.update_wrapper(wrapper, handler)
    # From Python 3.14 on that copies `__annotate__` instead, which is None where annotations are
    # text (`from __future__ import annotations`); to ask for others would evaluate them too early.
    if getattr(handler, "__annotate__", None) is None and hasattr(handler, "__annotations__"):
        wrapper.__annotations__ = handler.__annotations__
    return wrapper


def _defer(marking: Marking, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Deferrable | None:
    request = CURRENT.get()
    if request is not None:
        _say(request, marking, args, kwargs)
    return request


def _say(
    request: Deferrable, marking: Marking, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    if marking.queue is None:
        request.defer(marking)
    elif (leave := request.hand_over(marking, args, kwargs)) is not None:
        raise leave


def _defer_in_thread(
    marking: Marking, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Awaitable[object] | None:
    """Return what does so without keeping the event loop; None if it would not anyway."""
    request = CURRENT.get()
    if request is None or request.operation_id is None:
        return None
    if marking[:3] == (None, None, None) and not may_be_repeatable():
        return None
    from anyio import to_thread  # there is a gateway, so it is imported already

    return to_thread.run_sync(_say, request, marking, args, kwargs, limiter=_threads_of_loop())


@functools.cache
def _threads() -> RunVar[CapacityLimiter]:
    from anyio.lowlevel import RunVar

    return RunVar("raincheck-marks")


def _threads_of_loop() -> CapacityLimiter:
    """Return threads that are not anyio's own: sync handlers may hold all of those."""
    try:
        return _threads().get()
    except LookupError:
        from anyio import CapacityLimiter

        _threads().set(limiter := CapacityLimiter(_MARKS_AT_ONCE))
        return limiter
