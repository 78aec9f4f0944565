"""What httpx's two transports have in common: their messages, read and built. No I/O."""

from __future__ import annotations

import math
import time
from typing import Any, cast

import httpx

from raincheck.client.conversation import conversation
from raincheck.client.driving import KEY, Effects, fresh_key, may_repeat, timeout_of, wants_key
from raincheck.client.exchange import STARTING, Answer, Ask, Asked, Final, may_start
from raincheck.client.fields import BODY_LIMIT, Fields
from raincheck.client.options import Options
from raincheck.client.starting import names_place
from raincheck.errors import ConfigurationError

OPTIONS, TOKEN = "raincheck", "raincheck_token"  # extensions of a request, or of a response
_FOR = "raincheck_token_for"  # the URL of the request that resumes: httpx copies extensions
_TIMEOUTS = ("connect", "read", "write", "pool")


def options_of(request: httpx.Request, default: Options) -> Options:
    options = request.extensions.get(OPTIONS, default)
    if not isinstance(options, Options):
        raise ConfigurationError(f'extensions["{OPTIONS}"] is an Options, not {options!r}')
    return options


def token_of(request: httpx.Request) -> str | None:
    """Return the token to go on with; None: it is none, or a client follows a redirect."""
    token = request.extensions.get(TOKEN)
    is_own = request.extensions.get(_FOR, str(request.url)) == str(request.url)
    return token if isinstance(token, str) and is_own else None


def is_start(response: httpx.Response, options: Options) -> bool:
    """Tell whether there may be something to follow."""
    status, templated = response.status_code, options.place is not None
    return status in STARTING and may_start(status, fields_of(response), templated=templated)


def fields_of(response: httpx.Response) -> Fields:
    raw = response.headers.raw
    return tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw)


class Seen:
    """The last answer: what was read of its body, and what was not."""

    def __init__(self, response: httpx.Response, began: float) -> None:
        self.response = response
        self.answer = Answer(response.status_code, fields_of(response), None, _since(began))
        self.read: bytes | None = None  # nothing was tried
        self.rest: Any = None

    def has_read(self, body: bytes, rest: Any) -> Answer:
        """Take in what was read, and what gives the rest."""
        self.read, self.rest = body, rest
        if len(body) <= BODY_LIMIT:
            answer = self.answer
            self.answer = Answer(answer.status, answer.headers, body, answer.took)
        return self.answer


def _since(began: float) -> float:
    return time.monotonic() - began


class Common:
    """One request and what follows from it, without I/O."""

    def __init__(self, request: httpx.Request, options: Options) -> None:
        self.request = request
        self.options = options
        self.seen: Seen | None = None
        if wants_key(self._asked(), options):
            request.headers[KEY] = fresh_key()
        self.asked = self._asked()

    def _asked(self) -> Asked:
        raw = self.request.headers.raw
        fields = tuple((n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in raw)
        return Asked(self.request.method, str(self.request.url), fields)

    def effects(self, began: float) -> Effects[Final | None]:
        """Return what is to be done, from here on."""
        can_repeat = isinstance(self.request.stream, httpx.ByteStream)
        return conversation(
            self.asked,
            self.options,
            token=token_of(self.request),
            first=self.seen.answer if self.seen else None,
            began=began,
            repeats=can_repeat and may_repeat(self.asked, self.options),
        )

    def time_to_read(self, head: Answer) -> float | None:
        """Return the seconds for an answer whose body may be done without; None: it may not."""
        if not names_place(self.asked, head, self.options.place):
            return None
        return math.inf if self.options.deadline is None else self.options.deadline

    def poll(self, ask: Ask) -> httpx.Request:
        """Build a poll: with the timeouts and the trace of the request, and no other extension."""
        given = self.request.extensions
        extensions = {"trace": given["trace"]} if "trace" in given else {}
        limits = cast("dict[str, float | None]", given.get("timeout", {}))
        timeouts = {name: timeout_of(ask, limits.get(name), name) for name in _TIMEOUTS}
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in ask.headers]
        return httpx.Request(
            ask.method, ask.url, headers=headers, extensions={**extensions, "timeout": timeouts}
        )

    def response(self, final: Final | None, stream: Any) -> httpx.Response:
        """Build what is returned; None: the answer as it came, but its body may have been read."""
        if self.seen is None:
            raise TypeError("there is no response without an answer")
        last = self.seen.response
        headers = list(last.headers.raw)
        extensions = dict(last.extensions)
        status = final.status if final is not None else last.status_code
        if final is not None:
            extensions[TOKEN] = final.token
            if final.headers != self.seen.answer.headers:
                headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in final.headers]
            headers += [(b"set-cookie", value.encode("latin-1")) for value in final.cookies]
        if status != last.status_code:
            extensions.pop("reason_phrase", None)
        return httpx.Response(status, headers=headers, stream=stream, extensions=extensions)
