"""What a handler can say to raincheck: that it is slow, how far it is; and hear: that it may stop.

Neutral to frameworks, and reaches the gateway through one context variable. Where there is no
raincheck around, everything here does nothing. Imports no framework.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, overload

from raincheck.errors import OperationCancelled

if TYPE_CHECKING:
    from anyio import CapacityLimiter
    from anyio.lowlevel import RunVar

    from raincheck.operations.operation import Progress

_T = TypeVar("_T")

# The attribute says which of two functions one has. Decorators above copy it (functools.wraps).
MARK = "__raincheck__"
EFFECTIVE = "marked"  # the function that `long_running` returned
BYPASSED = "marked, but without effect here"  # the one that it was given
_MARKS_AT_ONCE = 16  # in one event loop, where they have to be recorded
MESSAGE_LIMIT = 1_000  # characters of a progress message


class Marking(NamedTuple):
    """What a handler says of itself where it is marked.

    Attributes:
        retry: Whether it may be run again if its process is lost; None: as the options say.
        timeout: Seconds it may run once it was deferred; None: as the options say.
        is_said: Whether it has been called: what it has said so far is all that it says.
    """

    retry: bool | None = None
    timeout: float | None = None
    is_said: bool = False


UNMARKED = Marking()
_known_markings: set[Marking] = {UNMARKED}  # of all handlers that are marked in this process


def may_be_repeatable() -> bool:
    """Tell whether a handler of this process is marked `retry=True`, whatever its method."""
    return any(marking.retry for marking in _known_markings)


class Deferrable(Protocol):
    """The request that is being handled, as far as its handler has to do with it. Thread-safe.

    Attributes:
        over: Whether the application has returned or raised.
        is_rerun: Whether it is run again, because its process was lost.
        protocol: In which it is handled: `asgi` or `wsgi`.
    """

    over: bool
    is_rerun: bool
    protocol: str

    @property
    def sign(self) -> object:
        """What its own scope or environ has under `REQUEST`."""
        ...

    def is_here(self) -> bool:
        """Tell whether this is the very task or thread of its handler, which may be deferred."""
        ...

    def defer(self, marking: Marking) -> None:
        """Have the request answered 202 now, if it still can be.

        Blocks on the store if it was deferred before and `marking` says something new.
        """
        ...

    def enter(self) -> None:
        """Take note that a sync handler begins, which only ends by itself."""
        ...

    def leave(self) -> None:
        """Take note that a sync handler has ended."""
        ...

    def report(self, progress: Progress) -> None:
        """Take note of how far the handler is."""
        ...

    @property
    def operation_id(self) -> str | None:
        """The operation's id, once there is one."""
        ...

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the response any more."""
        ...


CURRENT: ContextVar[Deferrable | None] = ContextVar("raincheck", default=None)
REQUEST = "raincheck.request"  # in a scope or environ: the sign of what handles it


def is_within(outer: Deferrable, protocol: str, source: Mapping[str, Any]) -> bool:
    """Tell whether a request is part of one that is being handled, and not another one.

    The context alone does not tell: servers, pools and instruments begin a stranger's request in
    that of a running handler. So the request itself has to have its sign. Where it has been
    translated to the other protocol, it has none any more; but a server speaks only one. And what
    a handler asks of the application itself, without a server, is part of what it does.

    Args:
        outer: What the context says is being handled.
        protocol: In which the request has come.
        source: Its scope or environ.
    """
    if outer.over:
        return False
    is_same = source.get(REQUEST) is outer.sign or outer.protocol != protocol
    return is_same or outer.is_here()


async def outside(function: Callable[..., Awaitable[_T]], *arguments: Any) -> _T:
    """Call what belongs to a server, which may begin the client's next request in there."""
    token = CURRENT.set(None)
    try:
        result = await function(*arguments)
    except GeneratorExit:  # whoever throws this coroutine away has another context
        raise
    except BaseException:
        CURRENT.reset(token)
        raise
    CURRENT.reset(token)
    return result


_F = TypeVar("_F", bound=Callable[..., Any])


@overload
def long_running(handler: _F, /) -> _F: ...
@overload
def long_running(
    *, retry: bool | None = None, timeout: float | None = None
) -> Callable[[_F], _F]: ...
def long_running(
    handler: Any = None, /, *, retry: bool | None = None, timeout: float | None = None
) -> Any:
    """Mark a handler as slow: its requests are answered 202 as soon as it is called.

    Put it directly above the function, below the framework's decorators, so that authentication
    and validation come first and their 401, 403 and 422 stay what they are. Works for functions,
    methods and generators, sync and async.

    Args:
        retry: Whether the handler may be run again if its process is lost: True says that to run it
            twice does no harm, False that it would, whatever the method. Default: as the options
            say, which is: safe methods only.
        timeout: Seconds it may run once it was deferred. Default: as the options say.

    Raises:
        TypeError: What is decorated is not a function: a class, a `classmethod`, or what a
            framework's decorator made of it.
        ValueError: `timeout` is not a number of seconds above 0.
    """
    marking = Marking(retry, timeout, is_said=True)
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
    if handler is None:
        return functools.partial(_mark, marking=marking)
    return _mark(handler, marking)


def _mark(handler: Any, marking: Marking) -> Any:
    _check(handler)
    _known_markings.add(marking)
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
        if (may_block := defer_in_thread(marking)) is None:
            defer()
        else:
            await may_block
        return await handler(*args, **kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        request = defer()
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


def _defer(marking: Marking) -> Deferrable | None:
    request = CURRENT.get()
    if request is not None:
        request.defer(marking)
    return request


def _defer_in_thread(marking: Marking) -> Awaitable[object] | None:
    """Return what does so without keeping the event loop; None if it would not anyway."""
    request = CURRENT.get()
    if request is None or request.operation_id is None:
        return None
    if marking.retry is None and marking.timeout is None and not may_be_repeatable():
        return None
    from anyio import to_thread  # there is a gateway, so it is imported already

    return to_thread.run_sync(request.defer, marking, limiter=_threads_of_loop())


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


class CurrentOperation:
    """The operation that the running handler works on, or may come to work on.

    It may be passed to threads that don't inherit the context.
    """

    __slots__ = ("_request",)

    def __init__(self, request: Deferrable | None) -> None:
        self._request = request

    @property
    def id(self) -> str | None:
        """The operation's id; None before the request was deferred, and without raincheck."""
        return self._request.operation_id if self._request else None

    @property
    def cancelled(self) -> bool:
        """Whether the client has asked to stop, or the server is going away."""
        return self._request is not None and self._request.is_cancelled

    def progress(
        self, completed: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Say how far the handler is; pollers see it within about a second.

        Args:
            completed: In any unit.
            total: In the same unit, where known.
            message: A few words for people; cut after 1,000 characters.

        Raises:
            TypeError: `completed` or `total` is not a finite number.
        """
        from raincheck.operations.operation import Progress

        progress = Progress(
            _number("completed", completed),
            None if total is None else _number("total", total),
            None if message is None else _text(message),
        )
        if self._request is not None:
            self._request.report(progress)

    def raise_if_cancelled(self) -> None:
        """Stop the handler if nobody wants its response any more.

        Raises:
            OperationCancelled: The operation is cancelled; don't catch it.
        """
        if self.cancelled:
            raise OperationCancelled("the operation was cancelled")


def _number(name: str, value: Any) -> float:
    """Take any kind of number (numpy's, Decimal) as what JSON can hold."""
    number = value if type(value) is int else float(value)
    if not math.isfinite(number):
        raise TypeError(f"{name} must be a finite number, not {value!r}")
    return number


def _text(message: object) -> str:
    """Take any text, lazy or with the surrogates of a file name, as what JSON can hold."""
    return str(message)[:MESSAGE_LIMIT].encode("utf-8", "replace").decode("utf-8")


def is_rerun() -> bool:
    """Tell whether the running handler is run again, because the process of its last run was lost.

    No client can bring this about, or keep it from being so.
    """
    request = CURRENT.get()
    return request is not None and request.is_rerun


is_replay = is_rerun  # its former name


def current_operation() -> CurrentOperation:
    """Return the operation of the running handler; without raincheck, one that does nothing."""
    return CurrentOperation(CURRENT.get())
