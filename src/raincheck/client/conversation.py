"""A conversation with a server: the request, its polls, and the end, as effects. No I/O.

What to do in which order, for any library; `driving` has it done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from raincheck.client.driving import (
    CANCEL_SECONDS,
    CLOCK,
    Cancel,
    Clock,
    Effects,
    Lost,
    Send,
    SendFirst,
    Tell,
    Wait,
)
from raincheck.client.errors import DeadlineExceeded, FollowError, NothingToFollow, shown
from raincheck.client.exchange import Answer, Ask, Asked, Final, Step, may_start
from raincheck.client.following import Following, pause_after_failure
from raincheck.client.options import Options
from raincheck.client.starting import place_of
from raincheck.client.tokens import to_place

_PASSING = frozenset({429, 502, 503, 504})


def conversation(
    asked: Asked,
    options: Options,
    *,
    token: str | None,
    first: Answer | None,
    began: float,
    repeats: bool = False,
    clock: Clock = CLOCK,
) -> Effects[Final | None]:
    """Do what it takes to see the end of what a request starts.

    Args:
        token: Where to go on, instead of sending the request.
        first: Its answer, if it has been sent.
        began: When it was sent, by the clock that never goes back.
        repeats: Whether it may be sent again.

    Returns:
        None: the answer starts nothing, and is to be returned as it is.
    """
    if token is not None:
        return (yield from _resumed(asked, options, token, clock))
    if first is None:
        first = yield from (_repeated(options, clock) if repeats else _sent())
        if not may_start(first.status, first.headers, templated=options.place is not None):
            return None
    return (yield from _started(asked, options, first, began, clock))


def _sent() -> Effects[Answer]:
    answer = yield SendFirst()
    if answer is None:
        raise TypeError("a runner sends an answer back")
    return answer


def _started(
    asked: Asked, options: Options, answer: Answer, began: float, clock: Clock
) -> Effects[Final | None]:
    place = place_of(asked, answer, options.place)
    if place is None:
        if answer.status == 202 and options.strict:
            nowhere = f"{shown(asked.url)} answers 202, but says nowhere to poll"
            raise NothingToFollow(nowhere, status=202)
        return None
    following = Following(asked, options, place, began)
    now, wall = clock.monotonic(), clock.wall()
    first = lambda: following.begin(answer, now, wall)  # noqa: E731
    return (yield from _to_the_end(following, options, clock, first))


def _resumed(asked: Asked, options: Options, token: str, clock: Clock) -> Effects[Final]:
    place = to_place(token)
    original = Asked(place.method, place.asked, asked.headers)
    now = clock.monotonic()
    following = Following(original, options, place, now)
    return (yield from _to_the_end(following, options, clock, lambda: following.resume(now)))


def _to_the_end(
    following: Following, options: Options, clock: Clock, first: Callable[[], Step]
) -> Effects[Final]:
    tell = options.on_token or _nobody
    try:
        tell(told := following.token)  # before the deadline can have passed
        step = first()
        while isinstance(step, Ask):
            if told != following.token:
                tell(told := following.token)
            step = yield from _once(following, options, clock, step)
    except BaseException as error:
        ask = following.cancellation() if options.cancel and _gives_up(error) else None
        if ask is not None:
            yield Cancel(replace(ask, within=CANCEL_SECONDS))
        raise
    return step


def _nobody(_token: str) -> None:
    """Be told."""


def _once(following: Following, options: Options, clock: Clock, ask: Ask) -> Effects[Step]:
    if options.on_progress is not None and ask.progress is not None:
        yield Tell(ask.progress)
    if ask.after:
        yield Wait(ask.after)
    try:
        answer = yield Send(ask)
    except Exception as error:  # whatever it is: the operation may go on
        cause = error.__cause__ if isinstance(error, Lost) else None
        return following.lost(cause if isinstance(cause, Exception) else error, clock.monotonic())
    if answer is None:
        raise TypeError("a runner sends an answer back")
    return following.received(answer, clock.monotonic(), clock.wall())


def _gives_up(error: BaseException) -> bool:
    """Tell whether nobody will go on; after the other errors somebody may, with the token.

    What is no `FollowError` comes from the caller: an interruption, or an error of a callback.
    """
    return isinstance(error, DeadlineExceeded) or not isinstance(
        error, (FollowError, GeneratorExit)
    )


def _repeated(options: Options, clock: Clock) -> Effects[Answer]:
    """Send a request that has an `Idempotency-Key`, and again while its answer is lost.

    Raises:
        Lost: It was so for too long.
    """
    began, tries = clock.monotonic(), 0
    while True:
        tries += 1
        left = began + options.patience - clock.monotonic()
        try:
            answer = yield from _sent()
        except Lost:
            if left <= 0:
                raise
            yield Wait(pause_after_failure(tries, None, left))
            continue
        advised = answer.retry_after(clock.wall())
        is_handled = answer.status == 409 and tries > 1 and advised is not None
        if left <= 0 or not (answer.status in _PASSING or is_handled):
            return answer
        yield Wait(pause_after_failure(tries, advised, left))
