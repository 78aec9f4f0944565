"""The request body, read by the server's thread before the handler's thread is begun.

Once the request is answered the server's own stream is of no use: some servers close it, others
read from it as if it were empty, and uwsgi's belongs to one thread.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

from raincheck.config.limits import Limits
from raincheck.config.policy import SAFE, Candidate
from raincheck.engine.idempotency import Sharing
from raincheck.engine.refusals import refuse_unread
from raincheck.http.messages import Response
from raincheck.http.spool import PIECE, Spooled, SpoolFile
from raincheck.wsgi.arriving import Late, Patience, Read, is_empty, reader_of
from raincheck.wsgi.translation import to_length

logger = logging.getLogger("raincheck")

IN_MEMORY = 1024 * 1024  # bytes; what exceeds them goes to a temporary file
_PIECE = 64 * 1024  # bytes
# Seconds that a client may take to send a body, beside what a slow line needs: to promote the
# request; if it is safe, whose handler has no use for one; if it has a key, of which the body is a
# part, so that nothing can go on without.
PATIENCE = 1.0
_OF_SAFE = 0.1
_OF_KEYS = 10.0


class Unread(Exception):
    """The body is too large to be read ahead, or could not be read to its end.

    Attributes:
        stream: What the application is to read instead of the server's stream.
        has_room: Whether there was room for what was read.
        is_late: Whether it does not come: its client takes too long, or has left.
    """

    def __init__(self, stream: IO[bytes], *, has_room: bool = True, is_late: bool = False) -> None:
        super().__init__()
        self.stream = stream
        self.has_room = has_room
        self.is_late = is_late

    def refusal(
        self, candidate: Candidate, sharing: Sharing | None, limits: Limits
    ) -> Response | None:
        """Return what is to be answered; None if the request may go on as it is."""
        return refuse_unread(
            candidate,
            sharing,
            limits,
            has_room=self.has_room,
            is_late=self.is_late,
            queue=candidate.queue,
        )


def patience_for(method: str, sharing: Sharing | None) -> float:
    """Return the seconds that a client may take to send the body of a request."""
    if sharing is not None and sharing.key is not None:
        return _OF_KEYS
    return _OF_SAFE if method in SAFE else PATIENCE


def read_ahead(
    environ: dict[str, Any], limit: int, spooled: Spooled, patience: float = PATIENCE
) -> IO[bytes]:
    """Return the whole request body as a stream of its own.

    It takes the place of the server's in the environ, whose owner may read what the handler has
    not: test clients do, and what is around.

    Args:
        limit: Bytes that may be read.
        spooled: Counts those in temporary files.
        patience: Seconds that a client may take beside what a slow line needs.

    Raises:
        Unread: The application has to read from where the body comes.
    """
    stream, length = environ["wsgi.input"], content_length(environ)
    if length is None and not environ.get("wsgi.input_terminated"):
        if environ.get("HTTP_TRANSFER_ENCODING"):
            raise Unread(stream)  # only the application knows how this server gives chunks
        return io.BytesIO()
    if (not length and length is not None) or is_empty(stream):
        return io.BytesIO()
    if length is not None and length > limit:
        raise Unread(stream)
    try:
        arriving = Arriving(environ, length, Patience(patience))
        environ["wsgi.input"] = body = _copy(arriving, limit, spooled)
    except Unread as unread:
        environ["wsgi.input"] = unread.stream
        raise
    return body


def let_go(body: IO[bytes], *, is_over: bool = False) -> None:
    """Delete the file of a body, if it was read to its end or the server is done with the request.

    Otherwise what the handler has not read is there as long as somebody refers to it. That can't be
    all: frameworks put environs into cycles, and a server that is idle collects none.

    Args:
        is_over: Whether the server is done with the request.
    """
    if type(body) is io.BytesIO:
        return
    raw = getattr(body, "raw", None)
    if isinstance(raw, LargeBody):
        raw.let_go(is_over=is_over)
    elif not isinstance(body, io.BytesIO):
        body.close()


def give_back(stream: Any, body: IO[bytes]) -> None:
    """Have a stream that was read ahead be where it would be had the handler read from it.

    Some clients in the same process read what is left of it, to send it again after a redirect.
    """
    if not body.closed and getattr(stream, "seekable", bool)():
        stream.seek(body.tell() - _size(body), io.SEEK_CUR)


def _size(body: Any) -> int:
    return len(body.getvalue()) if isinstance(body, io.BytesIO) else int(body.raw.size)


def content_length(environ: Mapping[str, Any]) -> int | None:
    """Return the declared length in bytes; None without one that makes sense."""
    return to_length(environ.get("CONTENT_LENGTH"))


def pieces(body: IO[bytes]) -> Iterable[bytes] | None:
    """Return all of a body that was read ahead, without disturbing whoever reads it.

    Returns:
        None if it can't be had, because whoever reads it has closed it.
    """
    if body.closed:
        return None
    if isinstance(body, io.BytesIO):
        return (body.getvalue(),)
    raw = getattr(body, "raw", None)
    return raw.pieces() if isinstance(raw, LargeBody) else None


class LargeBody(io.RawIOBase):
    """A body of which the beginning is in memory, and what follows in a temporary file."""

    def __init__(self, beginning: bytes, spooled: Spooled) -> None:
        super().__init__()
        self._beginning = beginning
        self._file = SpoolFile(spooled)
        self._position = 0

    def append(self, data: bytes) -> None:
        """Write to its end.

        Raises:
            OSError: There is no room for it.
        """
        self._file.append(data)

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return len(self._beginning) + self._file.size

    def let_go(self, *, is_over: bool) -> None:
        """Delete the file if nobody is to read it any more."""
        if is_over or self._position >= self.size:
            self._file.close()

    def pieces(self) -> Iterator[bytes]:
        """Yield all of it, wherever it is being read."""
        yield self._beginning
        yield from self._file.pieces()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        piece = self._read(self._position, len(buffer))
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _read(self, position: int, size: int) -> bytes:
        in_file = position - len(self._beginning)
        if self._file.is_closed and position < self.size:
            raise ValueError("this body is gone: its request is over, and it was large")
        if in_file >= 0:
            return self._file.read(in_file, size)
        return self._beginning[position : position + size]

    def close(self) -> None:
        self._file.close()
        super().close()


class _Copy:
    """What was read of a body so far."""

    def __init__(self, spooled: Spooled) -> None:
        self.size = 0
        self._memory = io.BytesIO()
        self._large: LargeBody | None = None
        self._spooled = spooled

    def append(self, piece: bytes) -> None:
        """Keep what comes next.

        Raises:
            OSError: There is no room for it.
        """
        if self._large is None and self.size + len(piece) > IN_MEMORY:
            self._large = LargeBody(self._memory.getvalue(), self._spooled)
        if self._large is None:
            self._memory.write(piece)
        else:
            self._large.append(piece)
        self.size += len(piece)

    def stream(self) -> IO[bytes]:
        """Return all of it, to be read from its beginning."""
        if self._large is not None:
            return io.BufferedReader(self._large, PIECE)
        self._memory.seek(0)
        return self._memory


class Arriving:
    """A body on its way.

    Attributes:
        stream: The server's.
        rest: Bytes that are still to come; None: it says itself where it ends.
    """

    def __init__(self, environ: dict[str, Any], length: int | None, patience: Patience) -> None:
        self.stream: IO[bytes] = environ["wsgi.input"]
        self.rest = length
        self._patience = patience
        self._read: Read = reader_of(environ, patience)

    def next_piece(self) -> bytes:
        """Return what comes next; none at the end, or if the client leaves before."""
        # Never more than was declared: a server may wait for bytes that do not come.
        rest = self.rest
        piece = self._read(_PIECE if rest is None or rest > _PIECE else rest)
        if rest is not None:
            self.rest = rest - len(piece)
        self._patience.note(len(piece))
        return piece

    def after(self, *ahead: IO[bytes]) -> IO[bytes]:
        """Return a stream of what was read already, and of what the server still has."""
        return io.BufferedReader(_Joined([*ahead], self.stream, self.rest))


def _copy(arriving: Arriving, limit: int, spooled: Spooled) -> IO[bytes]:
    copy = _Copy(spooled)
    while arriving.rest is None or arriving.rest:
        try:
            piece = arriving.next_piece()
        except Late:
            raise Unread(arriving.after(copy.stream()), is_late=True) from None
        except Exception as error:
            # The handler gets to see it; some servers, asked again, would call this the end.
            raise Unread(arriving.after(copy.stream(), _Broken(error)), is_late=True) from None
        if not piece:
            break
        try:
            copy.append(piece)
        except OSError as error:
            logger.warning("an upload is not read ahead: %s", error)
            rest = arriving.after(copy.stream(), io.BytesIO(piece))
            raise Unread(rest, has_room=False) from None
        if copy.size > limit:
            raise Unread(arriving.after(copy.stream()))
    if arriving.rest:  # its client has left: nobody would get the 202
        raise Unread(arriving.after(copy.stream()), is_late=True)
    return copy.stream()


class _Broken(io.BytesIO):
    """The place in a body behind which it can't be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def read(self, size: int | None = -1) -> bytes:
        """Raise what the server's stream has raised."""
        raise self._error


class _Joined(io.RawIOBase):
    """What was read already, and then what the server still has."""

    def __init__(self, ahead: list[IO[bytes]], stream: IO[bytes], rest: int | None) -> None:
        self._ahead = ahead
        self._stream = stream
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._next(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def _next(self, size: int) -> bytes:
        while self._ahead:
            if piece := self._ahead[0].read(size):
                return piece
            self._ahead.pop(0).close()
        size = size if self._rest is None else min(self._rest, size)
        piece = self._stream.read(size) if size else b""
        self._rest = None if self._rest is None else self._rest - len(piece)
        return piece

    def close(self) -> None:
        for stream in self._ahead:
            stream.close()
        super().close()
