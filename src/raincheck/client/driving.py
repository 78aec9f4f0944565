"""Effects: what a conversation wants done, and the runners that have it done.

There is one runner for threads and one for event loops; neither decides anything.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from raincheck.client.exchange import Answer, Ask, Asked
from raincheck.client.options import Options, Progress

CANCEL_SECONDS = 2.0  # that a cancellation may take: somebody waits for the interruption
KEY = "idempotency-key"
_KEYED = frozenset({"POST", "PATCH"})


class Lost(Exception):
    """There was no answer; the library's own error is the ``__cause__``."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks, for tests to replace.

    Attributes:
        monotonic: Seconds, never going back.
        wall: Seconds since the epoch.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class Wait:
    """Let seconds pass; the connection is free meanwhile."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SendFirst:
    """Send the original request; the answer is sent back."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a poll; the answer is sent back. `Lost` is thrown where there is none."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Cancel:
    """Send a cancellation, whatever comes of it: the caller does not wait any more."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Tell:
    """Call back with the progress."""

    progress: Progress


Effect = Wait | SendFirst | Send | Cancel | Tell
Reply = Answer | None
_T = TypeVar("_T")
Effects = Generator[Effect, Reply, _T]


def wants_key(asked: Asked, options: Options) -> bool:
    """Tell whether an `Idempotency-Key` is to be added."""
    has_one = any(name == KEY for name, _ in asked.headers)
    return options.idempotency_key and asked.method.upper() in _KEYED and not has_one


def fresh_key() -> str:
    """Make an `Idempotency-Key`: a string of structured fields (RFC 9651)."""
    return f'"{uuid.uuid4()}"'


def may_repeat(asked: Asked, options: Options) -> bool:
    """Tell whether the request may be sent again: only under a key, and only if that was asked."""
    return options.idempotency_key and any(name == KEY for name, _ in asked.headers)


def timeout_of(ask: Ask, limit: float | None, name: str) -> float | None:
    """Return a timeout of a poll, which must not outlast the deadline.

    Args:
        limit: Seconds that the original request has; None: any.
        name: What it limits: `read` has the time to add for which the server may hold the poll.
    """
    if limit is not None and name == "read":
        limit += ask.wait
    if ask.within is None:
        return limit
    longest = ask.within + 1.0
    return longest if limit is None else min(limit, longest)


def in_time(began: float, within: float | None) -> None:
    """Give up an answer that comes in drops, each of them before a timeout.

    Raises:
        Lost: It has taken longer than these seconds.
    """
    if within is not None and time.monotonic() - began > within:
        raise Lost("the answer did not come in time")


class _Drive(Generic[_T]):
    """Effects, one after another, and what becomes of each.

    Attributes:
        effect: What is to be done now; None: it is over.
    """

    def __init__(self, effects: Effects[_T]) -> None:
        self._effects = effects
        self._end: _T | None = None
        self.effect: Effect | None = None
        self._go_on(lambda: next(effects))

    @property
    def end(self) -> _T:
        """What they have come to."""
        return cast("_T", self._end)

    def done(self, reply: Reply) -> None:
        """Take note that the effect is done."""
        self._go_on(lambda: self._effects.send(reply))

    def failed(self, error: BaseException) -> None:
        """Take note that it has failed; a cancellation was a courtesy, and may."""
        if isinstance(self.effect, Cancel):
            self.done(None)
        else:
            self._go_on(lambda: self._effects.throw(error))

    def _go_on(self, step: Callable[[], Effect]) -> None:
        try:
            self.effect = step()
        except StopIteration as end:
            self.effect, self._end = None, end.value
        except Lost as lost:
            raise lost.__cause__ or lost from None


def run(effects: Effects[_T], do: Callable[[Effect], Reply]) -> _T:
    """Have effects done by a function, and return what they come to."""
    drive = _Drive(effects)
    while drive.effect is not None:
        try:
            reply = do(drive.effect)
        except BaseException as error:
            drive.failed(error)
        else:
            drive.done(reply)
    return drive.end


async def arun(effects: Effects[_T], do: Callable[[Effect], Awaitable[Reply]]) -> _T:
    """Have effects done by a coroutine function, and return what they come to."""
    drive = _Drive(effects)
    while drive.effect is not None:
        try:
            reply = await do(drive.effect)
        except BaseException as error:
            drive.failed(error)
        else:
            drive.done(reply)
    return drive.end
