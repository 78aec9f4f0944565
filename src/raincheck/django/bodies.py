"""Request bodies of Django's, for whoever has to have all of one without disturbing its handler."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

from django.core.handlers.wsgi import LimitedStream, WSGIRequest

from raincheck.http.spool import PIECE, Spooled
from raincheck.wsgi.request_body import PATIENCE, Unread, content_length, let_go, pieces, read_ahead

if TYPE_CHECKING:
    from django.http import HttpRequest


class Body:
    """The body of one request.

    Args:
        stream: What holds it, as long as Django has not made bytes of it; None: nothing does.
        is_ours: Whether it was read ahead by raincheck, and not by Django.
    """

    def __init__(self, request: HttpRequest, stream: Any, *, is_ours: bool = False) -> None:
        self._request = request
        self._stream = stream
        self._is_ours = is_ours

    def pieces(self) -> Iterable[bytes] | None:
        """Return all of it; None if that is not to be had."""
        if (whole := getattr(self._request, "_body", None)) is not None:
            return (whole,)
        stream = self._stream
        if stream is None or stream.closed:
            return None
        if not isinstance(stream, tempfile.SpooledTemporaryFile):
            return pieces(stream)
        memory = getattr(stream, "_file", None)  # until there is too much
        return (memory.getvalue(),) if isinstance(memory, io.BytesIO) else _read(stream)

    def close(self) -> None:
        """Delete it, unless Django does or somebody may still read it."""
        if self._is_ours:
            let_go(self._stream)


def _read(stream: IO[bytes]) -> Iterator[bytes]:
    descriptor, position = os.dup(stream.fileno()), 0
    try:
        while piece := os.pread(descriptor, PIECE, position):
            position += len(piece)
            yield piece
    finally:
        os.close(descriptor)


def take_body(
    request: HttpRequest, limit: int, spooled: Spooled, patience: float = PATIENCE
) -> Body:
    """Return the body of a request, which is read ahead unless it was read.

    Under ASGI, Django has done so.

    Args:
        limit: Bytes that may be read.
        spooled: Counts those in temporary files.
        patience: As for `read_ahead`.

    Raises:
        Unread: It can't be; the application reads from where it comes.
    """
    if not isinstance(request, WSGIRequest):
        return Body(request, getattr(request, "_stream", None))
    if request._read_started:
        if hasattr(request, "_body") or hasattr(request, "_post"):
            return Body(request, None)
        raise Unread(request._stream)
    length = content_length(request.META) or 0  # Django ignores a body without a length
    if not length:
        return Body(request, io.BytesIO())
    try:
        stream = read_ahead(request.META, limit, spooled, patience)
    except Unread as unread:
        request._stream = LimitedStream(unread.stream, length)
        raise
    request._stream = LimitedStream(stream, length)  # to close that does not close ours
    return Body(request, stream, is_ours=True)
