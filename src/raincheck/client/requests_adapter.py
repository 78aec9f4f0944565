"""An adapter for requests that follows a 202: the same effects as in httpx's transport."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from http.client import responses as REASONS
from typing import Any, cast

import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.structures import CaseInsensitiveDict

from raincheck.client.conversation import conversation
from raincheck.client.driving import (
    KEY,
    Cancel,
    Effect,
    Lost,
    Reply,
    Send,
    Tell,
    Wait,
    fresh_key,
    in_time,
    may_repeat,
    run,
    timeout_of,
    wants_key,
)
from raincheck.client.exchange import STARTING, Answer, Ask, Asked, Final, is_read, may_start
from raincheck.client.fields import BODY_LIMIT, SETS_COOKIES, Fields, origin
from raincheck.client.options import DEFAULT, Options
from raincheck.client.starting import names_place

_TOKEN = "raincheck_token"  # noqa: S105 - an attribute of a request
_LOST = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


class Adapter(BaseAdapter):
    """Follow a 202 to its end, and answer as if it had been synchronous.

    Args:
        wrapped: What sends the requests; default: `requests.adapters.HTTPAdapter()`.
        options: How to follow; default: `Options()`.
    """

    def __init__(self, wrapped: BaseAdapter | None = None, options: Options = DEFAULT) -> None:
        super().__init__()
        self._wrapped = wrapped if wrapped is not None else HTTPAdapter()
        self._options = options

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request, and what it takes to see its end."""
        how = {"timeout": timeout, "verify": verify, "cert": cert, "proxies": proxies}
        if self._options.idempotency_key or hasattr(request, _TOKEN):
            return _Talk(self._wrapped, request, self._options, how).run()
        began = time.monotonic()
        response = self._wrapped.send(request, stream=True, **cast("Any", how))
        if not _is_start(response, self._options):
            return response
        return _Talk(self._wrapped, request, self._options, how).run(response, began)

    def close(self) -> None:
        """Close what it wraps."""
        self._wrapped.close()


def resuming(request: requests.PreparedRequest, token: str) -> requests.PreparedRequest:
    """Mark a request, so that the adapter goes on with an operation instead of sending it."""
    setattr(request, _TOKEN, token)
    return request


def _is_start(response: requests.Response, options: Options) -> bool:
    status, templated = response.status_code, options.place is not None
    return status in STARTING and may_start(status, _fields(response), templated=templated)


def _fields(response: requests.Response) -> Fields:
    return tuple((name.lower(), value) for name, value in response.raw.headers.items())


class _Rest(io.RawIOBase):
    """What was read of a body, and then the rest of it."""

    def __init__(self, read: bytes, rest: urllib3.BaseHTTPResponse) -> None:
        self._read = io.BytesIO(read)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def read(self, amount: int | None = -1) -> bytes:
        amount = None if amount is None or amount < 0 else amount
        start = self._read.read(-1 if amount is None else amount)
        if start and amount is not None:
            return start
        return start + self._rest.read(amount, decode_content=False)

    def close(self) -> None:
        self._rest.close()
        super().close()


class _Talk:
    def __init__(
        self,
        wrapped: BaseAdapter,
        request: requests.PreparedRequest,
        options: Options,
        how: dict[str, Any],
    ) -> None:
        self._wrapped, self._request, self._options, self._how = wrapped, request, options, how
        if wants_key(_asked(request), options):
            request.headers[KEY] = fresh_key()
        self._last: requests.Response | None = None
        self._answer: Answer | None = None
        self._read: bytes | None = None
        self._history: list[requests.Response] = []

    def run(
        self, response: requests.Response | None = None, began: float = 0.0
    ) -> requests.Response:
        """Go on to the end."""
        began = began or time.monotonic()
        asked = _asked(self._request)
        can_repeat = isinstance(self._request.body, (str, bytes, type(None)))
        try:
            first = self._receive_first(response, began) if response is not None else None
            effects = conversation(
                asked,
                self._options,
                token=getattr(self._request, _TOKEN, None),
                first=first,
                began=began,
                repeats=can_repeat and may_repeat(asked, self._options),
            )
            return self._returned(run(effects, self._do))
        except BaseException:
            self._drop()
            raise

    def _do(self, effect: Effect) -> Reply:
        match effect:
            case Tell(progress):
                cast("Any", self._options.on_progress)(progress)
            case Wait(seconds):
                self._drop()
                time.sleep(seconds)
            case Cancel(ask):
                self._drop()
                self._wrapped.send(_poll(ask), stream=True, **self._how_to_poll(ask)).close()
            case Send(ask):
                return self._send(ask)
            case _:
                return self._send_first()
        return None

    def _how_to_poll(self, ask: Ask) -> dict[str, Any]:
        """Return how a poll is sent: to another origin without the client's certificate."""
        given = self._how["timeout"]
        if isinstance(given, urllib3.Timeout):
            given = (given.connect_timeout, given.read_timeout)
        connect, read = given if isinstance(given, tuple) else (given, given)
        limits = (
            timeout_of(ask, _seconds(connect), "connect"),
            timeout_of(ask, _seconds(read), "read"),
        )
        is_abroad = origin(ask.url) != origin(self._request.url or "")
        return self._how | {"timeout": limits} | ({"cert": None} if is_abroad else {})

    def _send(self, ask: Ask) -> Answer:
        self._drop()
        began = time.monotonic()
        response = self._wrapped.send(_poll(ask), stream=True, **self._how_to_poll(ask))
        return self._receive(response, began, ask.within)

    def _send_first(self) -> Answer:
        self._drop()
        began = time.monotonic()
        try:
            response = self._wrapped.send(self._request, stream=True, **self._how)
            return self._receive_first(response, began)
        except requests.exceptions.SSLError:
            raise
        except _LOST as error:
            raise Lost from error

    def _receive_first(self, response: requests.Response, began: float) -> Answer:
        head = Answer(response.status_code, _fields(response), None, time.monotonic() - began)
        if not names_place(_asked(self._request), head, self._options.place):
            return self._receive(response, began)
        try:
            return self._receive(response, began, self._options.deadline)
        except Exception:  # the body breaks off, but the head says enough
            self._answer = head
            return head

    def _receive(
        self, response: requests.Response, began: float, within: float | None = None
    ) -> Answer:
        self._last, self._read, body = response, None, None
        fields = _fields(response)
        answer = Answer(response.status_code, fields, None, time.monotonic() - began)
        if any(name == "set-cookie" for name, _ in fields):
            self._history.append(response)  # a session takes cookies from there
        if is_read(answer):
            self._read = _start_of(response.raw, began, within)
            body = self._read if len(self._read) <= BODY_LIMIT else None
        self._answer = Answer(answer.status, fields, body, answer.took)
        return self._answer

    def _drop(self) -> None:
        """Give the connection back: who waits, or is gone, does not need it."""
        if self._last is not None:
            self._last.close()

    def _returned(self, final: Final | None) -> requests.Response:
        response = cast("requests.Response", self._last)
        if final is None:
            response.raw = self._raw(response.status_code, response.raw.headers, None)
            return response
        if final.is_abroad:
            _without_cookies(response)
        fields = urllib3.HTTPHeaderDict(final.headers)
        is_same = self._answer is not None and final.headers == self._answer.headers
        headers = response.raw.headers if is_same else fields
        response.raw = self._raw(final.status, headers, final.body)
        response.history = [seen for seen in self._history if seen is not response]
        if final.status != response.status_code:
            response.status_code = final.status
            response.reason = REASONS.get(final.status, "")
        if not is_same:
            response.headers = CaseInsensitiveDict(fields)
        response.url, response.request = self._request.url or "", self._request
        return response

    def _raw(self, status: int, headers: Any, body: bytes | None) -> urllib3.BaseHTTPResponse:
        raw = cast("requests.Response", self._last).raw
        if body is None and self._read is None:
            return cast("urllib3.BaseHTTPResponse", raw)
        source = io.BytesIO(body) if body is not None else _Rest(self._read or b"", raw)
        return urllib3.HTTPResponse(
            source,
            headers,
            status,
            preload_content=False,
            original_response=getattr(raw, "_original_response", None),
        )


def _asked(request: requests.PreparedRequest) -> Asked:
    fields = ((name.lower(), _text(value)) for name, value in request.headers.items())
    return Asked(request.method or "GET", request.url or "", tuple(fields))


def _seconds(limit: object) -> float | None:
    return float(limit) if isinstance(limit, (int, float)) else None


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _poll(ask: Ask) -> requests.PreparedRequest:
    return requests.Request(ask.method, ask.url, headers=dict(ask.headers)).prepare()


def _start_of(raw: Any, began: float, within: float | None) -> bytes:
    body = b""
    while len(body) <= BODY_LIMIT:
        chunk = _chunk(raw)
        if not chunk:
            break
        body += chunk
        in_time(began, within)
    return body


def _chunk(raw: Any) -> bytes:
    """Read what has come, with the errors of requests instead of those of urllib3."""
    read = getattr(raw, "read1", raw.read)  # which does not wait for more, as `read` does
    try:
        return cast("bytes", read(65_536, decode_content=False))
    except urllib3.exceptions.ProtocolError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from error


def _without_cookies(response: requests.Response) -> None:
    """Take the cookies out: a session would keep them under the name of the request's host."""
    original = getattr(response.raw, "_original_response", None)
    for name in SETS_COOKIES:
        if original is not None:
            del original.msg[name]
        response.raw.headers.pop(name, None)
        response.headers.pop(name, None)
    response.cookies.clear()
