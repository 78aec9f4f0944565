"""The request that is being handled, as its handler and what is around it know it.

It reaches the handler through one context variable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from raincheck.handler.marking import Marking

if TYPE_CHECKING:
    from raincheck.operations.operation import Progress

_T = TypeVar("_T")


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

    def hand_over(
        self, marking: Marking, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> BaseException | None:
        """Have workers run the handler, instead of this process; may block on the store.

        Args:
            args: With which the handler is called, and `kwargs`.

        Returns:
            What is to be raised, so that the framework ends quietly what has begun here; None if
            the handler is to run here: for this is a worker, or it is too late.
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
