"""Transports for httpx that follow a 202: the same effects, in a thread and in an event loop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self, cast

import anyio
import httpx

from raincheck.client.driving import (
    CANCEL_SECONDS,
    Cancel,
    Effect,
    Lost,
    Reply,
    Send,
    Tell,
    Wait,
    arun,
    in_time,
    run,
)
from raincheck.client.exchange import Answer, Ask, is_read
from raincheck.client.fields import BODY_LIMIT
from raincheck.client.httpx_messages import Common, Seen, is_start, options_of, token_of
from raincheck.client.options import DEFAULT, Options

_LOST = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)


class Transport(httpx.BaseTransport):
    """Follow a 202 to its end, and answer as if it had been synchronous.

    A request may have options of its own: `client.get(url, extensions={"raincheck": Options()})`.

    Args:
        wrapped: What sends the requests; default: `httpx.HTTPTransport()`.
        options: How to follow; default: `Options()`.
    """

    def __init__(
        self, wrapped: httpx.BaseTransport | None = None, options: Options = DEFAULT
    ) -> None:
        self._wrapped = wrapped if wrapped is not None else httpx.HTTPTransport()
        self._options = options

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and what it takes to see its end."""
        options = options_of(request, self._options)
        if token_of(request) is not None or options.idempotency_key:
            return _Talk(self._wrapped, request, options).run()
        began = time.monotonic()
        response = self._wrapped.handle_request(request)
        if not is_start(response, options):
            return response
        return _Talk(self._wrapped, request, options).run(response, began)

    def __enter__(self) -> Self:
        """Enter what it wraps."""
        self._wrapped.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave what it wraps."""
        self._wrapped.__exit__(exc_type, exc_value, traceback)

    def close(self) -> None:
        """Close what it wraps."""
        self._wrapped.close()


class AsyncTransport(httpx.AsyncBaseTransport):
    """Follow a 202 to its end, and answer as if it had been synchronous; asyncio and trio.

    Args:
        wrapped: What sends the requests; default: `httpx.AsyncHTTPTransport()`.
        options: How to follow; default: `Options()`. `on_progress` may be a coroutine function.
    """

    def __init__(
        self, wrapped: httpx.AsyncBaseTransport | None = None, options: Options = DEFAULT
    ) -> None:
        self._wrapped = wrapped if wrapped is not None else httpx.AsyncHTTPTransport()
        self._options = options

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and what it takes to see its end."""
        options = options_of(request, self._options)
        if token_of(request) is not None or options.idempotency_key:
            return await _AsyncTalk(self._wrapped, request, options).run()
        began = time.monotonic()
        response = await self._wrapped.handle_async_request(request)
        if not is_start(response, options):
            return response
        return await _AsyncTalk(self._wrapped, request, options).run(response, began)

    async def __aenter__(self) -> Self:
        """Enter what it wraps."""
        await self._wrapped.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave what it wraps."""
        await self._wrapped.__aexit__(exc_type, exc_value, traceback)

    async def aclose(self) -> None:
        """Close what it wraps."""
        await self._wrapped.aclose()


# --- in a thread -------------------------------------------------------------------------------


class _Rest(httpx.SyncByteStream):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def __iter__(self) -> Iterator[bytes]:
        if self._seen.read:
            yield self._seen.read
        yield from self._seen.rest

    def close(self) -> None:
        self._seen.response.close()


class _Talk(Common):
    def __init__(
        self, wrapped: httpx.BaseTransport, request: httpx.Request, options: Options
    ) -> None:
        super().__init__(request, options)
        self._wrapped = wrapped

    def run(self, response: httpx.Response | None = None, began: float = 0.0) -> httpx.Response:
        began = began or time.monotonic()
        try:
            if response is not None:
                self._receive_first(response, began)
            final = run(self.effects(began), self._do)
        except BaseException:
            self._drop()
            raise
        if final is not None and final.body is not None:
            self._drop()
            return self.response(final, httpx.ByteStream(final.body))
        return self.response(final, self._stream())

    def _stream(self) -> httpx.SyncByteStream:
        if self.seen is not None and self.seen.rest is None:
            return cast("httpx.SyncByteStream", self.seen.response.stream)
        return _Rest(cast("Seen", self.seen))

    def _do(self, effect: Effect) -> Reply:
        match effect:
            case Tell(progress):
                cast("Any", self.options.on_progress)(progress)
            case Wait(seconds):
                self._drop()
                time.sleep(seconds)
            case Cancel(ask):
                self._drop()
                self._wrapped.handle_request(self.poll(ask)).close()
            case Send(ask):
                return self._send(ask)
            case _:
                return self._send_first()
        return None

    def _send_first(self) -> Answer:
        self._drop()
        began = time.monotonic()
        try:
            return self._receive_first(self._wrapped.handle_request(self.request), began)
        except _LOST as error:
            raise Lost from error

    def _send(self, ask: Ask) -> Answer:
        self._drop()
        began = time.monotonic()
        response = self._wrapped.handle_request(self.poll(ask))
        return self._receive(response, began, ask.within)

    def _receive_first(self, response: httpx.Response, began: float) -> Answer:
        head = Seen(response, began)
        within = self.time_to_read(head.answer)
        if within is None:
            return self._receive(response, began)
        try:
            return self._receive(response, began, within)
        except Exception:  # the body breaks off, but the head says enough
            self.seen = head
            return head.answer

    def _receive(
        self, response: httpx.Response, began: float, within: float | None = None
    ) -> Answer:
        self.seen = seen = Seen(response, began)
        if not is_read(seen.answer):
            return seen.answer
        rest, body = iter(cast("httpx.SyncByteStream", response.stream)), b""
        for chunk in rest:
            body += chunk
            if len(body) > BODY_LIMIT:
                break
            in_time(began, within)
        return seen.has_read(body, rest)

    def _drop(self) -> None:
        """Give the connection back: who waits, or is gone, does not need it."""
        if self.seen is not None:
            self.seen.response.close()


# --- in an event loop --------------------------------------------------------------------------


class _AsyncRest(httpx.AsyncByteStream):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._seen.read:
            yield self._seen.read
        async for chunk in self._seen.rest:
            yield chunk

    async def aclose(self) -> None:
        await self._seen.response.aclose()


class _AsyncTalk(Common):
    def __init__(
        self, wrapped: httpx.AsyncBaseTransport, request: httpx.Request, options: Options
    ) -> None:
        super().__init__(request, options)
        self._wrapped = wrapped

    async def run(
        self, response: httpx.Response | None = None, began: float = 0.0
    ) -> httpx.Response:
        began = began or time.monotonic()
        try:
            if response is not None:
                await self._receive_first(response, began)
            final = await arun(self.effects(began), self._do)
        except BaseException:
            with anyio.move_on_after(CANCEL_SECONDS, shield=True):
                await self._drop()
            raise
        if final is not None and final.body is not None:
            await self._drop()
            return self.response(final, httpx.ByteStream(final.body))
        return self.response(final, self._stream())

    def _stream(self) -> httpx.AsyncByteStream:
        if self.seen is not None and self.seen.rest is None:
            return cast("httpx.AsyncByteStream", self.seen.response.stream)
        return _AsyncRest(cast("Seen", self.seen))

    async def _do(self, effect: Effect) -> Reply:
        match effect:
            case Tell(progress):
                told = cast("Any", self.options.on_progress)(progress)
                if isawaitable(told):
                    await told
            case Wait(seconds):
                await self._drop()
                await anyio.sleep(seconds)
            case Cancel(ask):  # the caller is cancelled already, and this must go out
                with anyio.move_on_after(CANCEL_SECONDS, shield=True):
                    await self._drop()
                    await (await self._wrapped.handle_async_request(self.poll(ask))).aclose()
            case Send(ask):
                return await self._send(ask)
            case _:
                return await self._send_first()
        return None

    async def _send_first(self) -> Answer:
        await self._drop()
        began = time.monotonic()
        try:
            response = await self._wrapped.handle_async_request(self.request)
            return await self._receive_first(response, began)
        except _LOST as error:
            raise Lost from error

    async def _send(self, ask: Ask) -> Answer:
        await self._drop()
        began = time.monotonic()
        with anyio.move_on_after(ask.within):
            return await self._receive(
                await self._wrapped.handle_async_request(self.poll(ask)), began
            )
        raise Lost("the answer did not come in time")

    async def _receive_first(self, response: httpx.Response, began: float) -> Answer:
        head = Seen(response, began)
        within = self.time_to_read(head.answer)
        if within is None:
            return await self._receive(response, began)
        try:
            with anyio.move_on_after(within - head.answer.took):
                return await self._receive(response, began)
        except Exception:  # noqa: S110 - the body breaks off, but the head says enough
            pass
        self.seen = head
        return head.answer

    async def _receive(self, response: httpx.Response, began: float) -> Answer:
        self.seen = seen = Seen(response, began)
        if not is_read(seen.answer):
            return seen.answer
        rest, body = aiter(cast("httpx.AsyncByteStream", response.stream)), b""
        async for chunk in rest:
            body += chunk
            if len(body) > BODY_LIMIT:
                break
        return seen.has_read(body, rest)

    async def _drop(self) -> None:
        if self.seen is not None:
            await self.seen.response.aclose()
