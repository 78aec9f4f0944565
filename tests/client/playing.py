"""A server that answers by a script, and clocks that jump: conversations without I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from raincheck.client.conversation import conversation
from raincheck.client.driving import (
    Cancel,
    Clock,
    Effect,
    Lost,
    Reply,
    Send,
    SendFirst,
    Tell,
    Wait,
    may_repeat,
    run,
)
from raincheck.client.exchange import Answer, Ask, Asked, Final
from raincheck.client.options import Options, Progress

HOME = "https://api.example/report"
WALL = 1_800_000_000.0
Line = Answer | Exception | BaseException | Callable[[Ask], Answer]


def answer(status: int, document: object = None, /, **headers: str) -> Answer:
    """Return an answer; `retry_after="1"` is `Retry-After: 1`, a document is its JSON."""
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    body = document if isinstance(document, bytes) else None
    if document is not None and body is None:
        body = json.dumps(document).encode()
        fields.append(("content-type", "application/json"))
    return Answer(status, tuple(fields), body)


def held(seconds: float, answer: Answer) -> Answer:
    """Return an answer for which its server takes its time."""
    return replace(answer, took=seconds)


@dataclass
class Played:
    """What a conversation has come to.

    Attributes:
        asks: The polls, and cancellations.
        waits: Seconds before each, where there were any.
        sent: How often the original request was sent.
    """

    asks: list[Ask] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    told: list[Progress] = field(default_factory=list)
    sent: int = 0
    seconds: float = 0.0
    final: Final | None = None
    error: BaseException | None = None

    @property
    def urls(self) -> list[str]:
        """What was polled."""
        return [ask.url for ask in self.asks]

    @property
    def cancelled(self) -> list[str]:
        """What was asked to be cancelled."""
        return [f"{ask.method} {ask.url}" for ask in self.asks if ask.method != "GET"]


def play(
    script: Iterator[Line] | list[Line],
    options: Options | None = None,
    *,
    method: str = "GET",
    url: str = HOME,
    token: str | None = None,
    headers: dict[str, str] | None = None,
) -> Played:
    """Have a conversation by a script, in which the original's answer comes first."""
    played, lines = Played(), iter(script)
    clock = Clock(lambda: played.seconds, lambda: WALL + played.seconds)
    options = options or Options()
    asked = Asked(method, url, tuple((headers or {}).items()))

    def say(line: Any, ask: Ask | None = None) -> Answer:
        played.seconds += 0.001
        if isinstance(line, Answer):
            played.seconds += line.took
            return line
        if isinstance(line, Exception):
            raise Lost from line
        if isinstance(line, BaseException):
            raise line
        made: Answer = line(ask)
        return made

    def do(effect: Effect) -> Reply:
        match effect:
            case Wait(seconds):
                played.waits.append(seconds)
                played.seconds += seconds
            case Tell(progress):
                played.told.append(progress)
                if options.on_progress is not None:
                    options.on_progress(progress)
            case SendFirst():
                played.sent += 1
                return say(next(lines))
            case Cancel(ask):
                played.asks.append(ask)
            case Send(ask):
                played.asks.append(ask)
                return say(next(lines), ask)
        return None

    effects = conversation(
        asked,
        options,
        token=token,
        first=None,
        began=0.0,
        repeats=may_repeat(asked, options),
        clock=clock,
    )
    try:
        played.final = run(effects, do)
    except BaseException as error:
        played.error = error
    return played
