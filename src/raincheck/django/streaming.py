"""Streamed responses: where their pieces are made, and when they have begun.

A response has begun with its first piece, not when the view returns: what takes long, such as the
query of an export, often runs only then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.handlers.wsgi import WSGIRequest
from django.http import StreamingHttpResponse

from raincheck.django.translation import is_file

if TYPE_CHECKING:
    from django.http import HttpRequest

MOST_HELD = 1000  # empty pieces; who sends more of them has begun


def is_live(response: Any) -> bool:
    """Tell whether its client wants the header fields before there is anything to tell."""
    return str(response.headers.get("Content-Type", "")).startswith("text/event-stream")


def pieces_of(response: Any, request: HttpRequest | None) -> Iterator[bytes] | None:
    """Return the pieces of a streamed response; None if it is none, or the event loop makes them.

    Under WSGI Django itself makes a list of an async stream.
    """
    if not response.streaming:
        return None
    if not response.is_async:
        content: Iterator[bytes] = response.streaming_content
        return content
    return _gathered(response._iterator) if isinstance(request, WSGIRequest) else None


def _gathered(content: AsyncIterator[Any]) -> Iterator[bytes]:
    yield from StreamingHttpResponse(content)


class _Made:
    """What was made ahead: pieces up to one that is not empty, and what was raised."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self.error: BaseException | None = None

    @property
    def is_enough(self) -> bool:
        """Whether the response has begun."""
        return bool(self._pieces and self._pieces[-1]) or len(self._pieces) >= MOST_HELD

    def put(self, piece: bytes) -> None:
        """Keep one more piece."""
        self._pieces.append(piece)

    def take(self) -> bytes | None:
        """Return the next piece, or raise what was raised; None: from here on, it is not made."""
        if self._pieces:
            return self._pieces.popleft()
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame
        return None


class Begun:
    """The pieces of a response, the first of which is made already; or what was raised instead."""

    def __init__(self, content: Iterator[bytes]) -> None:
        self._content = content
        self._made = _Made()

    def begin(self) -> Begun:
        """Make the first piece that is not empty."""
        try:
            while not self._made.is_enough:
                self._made.put(next(self._content))
        except StopIteration:
            pass
        except BaseException as error:
            self._made.error = error
        return self

    def __iter__(self) -> Begun:
        return self

    def __next__(self) -> bytes:
        made = self._made.take()
        return next(self._content) if made is None else made


def begin(content: Iterator[bytes], response: Any) -> Iterator[bytes]:
    """Return the pieces of a response that has begun."""
    return content if is_live(response) else Begun(content).begin()


class AsyncBegun:
    """The same for what comes in an event loop: all of it in one task, and in one context."""

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        self._made = _Made()
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[Any] = self._loop.create_future()
        self._task = self._loop.create_task(_make(content, self._asked))

    async def begin(self) -> AsyncBegun:
        """Make the first piece that is not empty."""
        try:
            while not self._made.is_enough and (piece := await self._ask()) is not None:
                self._made.put(piece)
        except Exception as error:
            self._made.error = error
        return self

    def __aiter__(self) -> AsyncBegun:
        return self

    async def __anext__(self) -> bytes:
        piece = self._made.take()
        if piece is None and (piece := await self._ask()) is None:
            raise StopAsyncIteration
        return piece

    async def _ask(self) -> bytes | None:
        if self._task.done():
            return None
        asked, answer = self._asked, self._loop.create_future()
        self._asked = self._loop.create_future()
        asked.set_result((answer, self._asked))
        while not answer.done():
            try:
                await asyncio.wait([answer])
            except asyncio.CancelledError:  # it is for whoever makes the piece
                self._task.cancel()
        piece: bytes | None = answer.result()
        return piece

    def stop(self) -> None:
        """Say that no more is taken, from any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._task.cancel)

    def __del__(self) -> None:
        if not self._task.done():
            self.stop()


async def _make(content: AsyncIterator[bytes], asked: Any) -> None:
    """Make the pieces that are asked for."""
    piece: bytes | None = b""
    try:
        while piece is not None:
            answer, asked = await asked
            try:
                piece = await anext(content, None)
            except asyncio.CancelledError:
                answer.cancel()
                raise
            except BaseException as error:
                answer.set_exception(error)
                return
            answer.set_result(piece)
    finally:
        await _close(content)


async def _close(content: Any) -> None:
    if (close := getattr(content, "aclose", None)) is not None:
        await close()


async def begin_in_loop(response: Any) -> None:
    """Have a streamed response of an async chain begin, in the context of its handler."""
    if not response.streaming or is_file(response) or is_live(response):
        return
    content = response.streaming_content
    if response.is_async:
        begun = AsyncBegun(content)
        response._resource_closers.append(begun.stop)
        response.streaming_content = await begun.begin()
    else:
        response.streaming_content = await sync_to_async(Begun(content).begin)()
