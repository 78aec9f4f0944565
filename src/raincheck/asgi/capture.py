"""Where the messages of a deferred application go: into the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import anyio.lowlevel

from raincheck.engine.engine import CHUNK_SIZE
from raincheck.engine.response_writer import ResponseWriter
from raincheck.http.messages import Headers
from raincheck.operations.operation import Reason

if TYPE_CHECKING:
    from starlette.types import Message

    from raincheck.asgi.loops import Loop


MOST_TRAILERS = 1_000  # fields: no server of a client would take more


class Capture:
    """Takes the messages that a server would, and complains where servers do.

    Args:
        writer: Records them.
    """

    # As long as an operation runs, there is one: slots save a third of a KiB.
    __slots__ = (
        *("_expects_trailers", "_is_body_over", "_is_complete"),
        *("_loop", "_trailers", "_writer"),
    )

    def __init__(self, writer: ResponseWriter, loop: Loop) -> None:
        self._writer = writer
        self._loop = loop
        self._expects_trailers = False
        self._trailers: list[tuple[bytes, bytes]] = []
        self._is_body_over = False
        self._is_complete = False

    @property
    def is_given_up(self) -> bool:
        """Whether no more is wanted: the response is too large, or can't be stored."""
        return self._writer.is_over and not self._is_complete

    @property
    def has_started(self) -> bool:
        """Whether the response has begun."""
        return self._writer.has_started

    @property
    def is_over(self) -> bool:
        """Whether the operation has ended."""
        return self._writer.is_over

    @property
    def first_headers(self) -> Headers:
        """The header fields as the handler gave them, cookies among them."""
        return self._writer.first_headers

    async def send(self, message: Message) -> None:
        """Take one message.

        Raises:
            RuntimeError: It can't come here (ASGI specification, HTTP connection scope).
        """
        kind = message["type"]
        if self.is_given_up:
            # Given up: what still comes is lost, and this is where a cancellation reaches a
            # handler that does nothing but send.
            await anyio.lowlevel.checkpoint()
        elif kind == "http.response.start":
            self._start(message)
        elif kind == "http.response.body":
            await self._body(message)
        elif kind == "http.response.trailers":
            await self._take_trailers(message)
        elif kind == "http.response.pathsend":
            self._expect_body()
            await self._file(os.open(message["path"], os.O_RDONLY), 0, None)
            await self._end_of_body()
        elif kind == "http.response.zerocopysend":
            await self._zero_copy(message)
        else:  # What is left can be lost: early hints, pushes, debugging aids.
            await anyio.lowlevel.checkpoint()

    async def conclude(
        self, error: BaseException | None, *, is_cancelled: bool, is_exit: bool
    ) -> None:
        """End the operation of an application that is over, unless its response did."""
        if error is not None or not self._writer.is_over:
            conclude = partial(
                self._writer.conclude, error, is_cancelled=is_cancelled, is_exit=is_exit
            )
            await self._loop.record(conclude)

    def _start(self, message: Message) -> None:
        if self._writer.has_started:
            raise RuntimeError("http.response.start was sent a second time")
        self._writer.start(message["status"], message.get("headers", ()))
        self._expects_trailers = message.get("trailers", False)

    async def _body(self, message: Message) -> None:
        self._expect_body()
        data = message.get("body", b"")
        if self._writer.feed(data):
            await self._loop.record(self._writer.flush)
        elif not data and message.get("more_body"):  # a handler may send nothing for ever
            await anyio.lowlevel.checkpoint()
        if not message.get("more_body", False):
            await self._end_of_body()

    async def _take_trailers(self, message: Message) -> None:
        if not (self._expects_trailers and self._is_body_over) or self._is_complete:
            raise RuntimeError("trailers were sent that were not announced, or not after the body")
        self._trailers += [(bytes(n), bytes(v)) for n, v in message.get("headers", ())]
        if len(self._trailers) > MOST_TRAILERS:
            await self._loop.record(self._writer.fail, Reason.RESPONSE_TOO_LARGE)
        elif message.get("more_trailers", False):
            await anyio.lowlevel.checkpoint()
        else:
            await self._complete()

    async def _zero_copy(self, message: Message) -> None:
        self._expect_body()
        descriptor = os.dup(message["file"])  # closed here, and the application closes its own
        await self._file(descriptor, message.get("offset"), message.get("count"))
        if not message.get("more_body", False):
            await self._end_of_body()

    async def _file(self, descriptor: int, offset: int | None, count: int | None) -> None:
        pieces = _pieces(descriptor, offset, count)
        try:
            while (piece := await self._loop.record(next, pieces, b"")) != b"":
                if self._writer.feed(piece):
                    await self._loop.record(self._writer.flush)
        finally:
            os.close(descriptor)

    async def _end_of_body(self) -> None:
        self._is_body_over = True
        if not self._expects_trailers:
            await self._complete()

    async def _complete(self) -> None:
        self._is_complete = True
        await self._loop.record(self._writer.complete, self._trailers)

    def _expect_body(self) -> None:
        if not self._writer.has_started:
            raise RuntimeError("a body was sent before http.response.start")
        if self._is_body_over:
            raise RuntimeError("a body was sent after the last one")


def _pieces(descriptor: int, offset: int | None, count: int | None) -> Iterator[bytes]:
    """Read a file from `offset` (or where it stands) in pieces, `count` bytes or to its end."""
    position, rest = offset, count
    while rest is None or rest > 0:
        size = CHUNK_SIZE if rest is None else min(CHUNK_SIZE, rest)
        if position is None:
            piece = os.read(descriptor, size)
        else:
            piece = os.pread(descriptor, size, position)
            position += len(piece)
        if not piece:
            return
        rest = None if rest is None else rest - len(piece)
        yield piece
