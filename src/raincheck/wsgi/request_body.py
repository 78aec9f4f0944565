"""The request body, read by the server's thread before the handler's thread is begun.

Once the request is answered the server's own stream is of no use: some servers close it, others
read from it as if it were empty, and uwsgi's belongs to one thread.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from typing import IO, Any

from raincheck.wsgi.translation import to_length

IN_MEMORY = 1024 * 1024  # bytes; a larger body goes to a temporary file
_PIECE = 64 * 1024  # bytes


class Unread(Exception):
    """The body is too large to be read ahead, or could not be read to its end.

    Attributes:
        stream: What the application is to read instead of the server's stream.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self.stream = stream


def read_ahead(environ: Mapping[str, Any], limit: int) -> IO[bytes]:
    """Return the whole request body as a stream of its own.

    Args:
        limit: Bytes that may be read.

    Raises:
        Unread: The application has to read from where the body comes.
    """
    stream, length = environ["wsgi.input"], content_length(environ)
    if length is None and not environ.get("wsgi.input_terminated"):
        if environ.get("HTTP_TRANSFER_ENCODING"):
            raise Unread(stream)  # only the application knows how this server gives chunks
        return io.BytesIO()
    if not length and length is not None:
        return io.BytesIO()
    if length is not None and length > limit:
        raise Unread(stream)
    return _copy(stream, length, limit)


def content_length(environ: Mapping[str, Any]) -> int | None:
    """Return the declared length in bytes; None without one that makes sense."""
    return to_length(environ.get("CONTENT_LENGTH"))


def _copy(stream: IO[bytes], length: int | None, limit: int) -> IO[bytes]:
    spool: IO[bytes] = io.BytesIO()
    rest, size = length, 0
    while rest is None or rest:
        try:
            # Never more than was declared: a server may wait for bytes that do not come.
            piece = stream.read(_PIECE if rest is None else min(rest, _PIECE))
        except Exception:
            # The handler asks the server itself, and gets to see why.
            raise Unread(_joined(spool, stream, rest)) from None
        if not piece:
            break
        if not size and (length is None or length > IN_MEMORY):
            spool = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - the exchange closes it
        size += len(piece)
        spool.write(piece)
        rest = None if rest is None else rest - len(piece)
        if size > limit:
            raise Unread(_joined(spool, stream, rest))
    if rest:  # its client has left: nobody would get the 202
        raise Unread(_joined(spool, stream, rest))
    spool.seek(0)
    return spool


def _joined(spool: IO[bytes], stream: IO[bytes], rest: int | None) -> IO[bytes]:
    spool.seek(0)
    return io.BufferedReader(_Joined(spool, stream, rest))


class _Joined(io.RawIOBase):
    """What was read already, and then what the server still has."""

    def __init__(self, spool: IO[bytes], stream: IO[bytes], rest: int | None) -> None:
        self._spool = spool
        self._stream = stream
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._spool.read(len(buffer))
        if not piece:
            size = len(buffer) if self._rest is None else min(self._rest, len(buffer))
            piece = self._stream.read(size) if size else b""
            self._rest = None if self._rest is None else self._rest - len(piece)
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._spool.close()
        super().close()
