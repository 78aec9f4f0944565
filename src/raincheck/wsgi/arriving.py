"""Bodies that come when their client likes: what has come of one is read, the rest waited for.

To PEP 3333 a read takes as long as it takes. A server's thread that reads ahead, for a handler that
may not want the body at all, must not be kept by a client that sends none. So where a server would
wait without a limit, it is asked only for what is there; of chunks, whose parser must not be left
half-way, whether they have begun. Others have a limit of their own, or have read the body before
they call an application.
"""

from __future__ import annotations

import io
import os
import selectors
import stat
import time
from collections.abc import Callable, Mapping
from inspect import GEN_CREATED, getgeneratorstate, isgenerator
from typing import Any

SLOWEST = 16 * 1024  # bytes per second: what comes faster may go on as long as it likes

Read = Callable[[int], bytes]


class Late(Exception):
    """The client takes too long."""


class Patience:
    """How long a body may take to come.

    Args:
        seconds: That it may take, beside one for each `SLOWEST` bytes that have come.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def note(self, size: int) -> None:
        """Take note that so many bytes have come."""
        self._end += size / SLOWEST

    def wait_for(self, readable: Any) -> None:
        """Wait until there is something to be read.

        Args:
            readable: A socket, or its descriptor.

        Raises:
            Late: There is nothing.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(readable, selectors.EVENT_READ)
            if not selector.select(max(0.0, self._end - time.monotonic())):
                raise Late


def reader_of(environ: Mapping[str, Any], patience: Patience) -> Read:
    """Return what reads at most so many bytes of a body; none at its end.

    It may raise `Late`.
    """
    stream = environ["wsgi.input"]
    if type(stream) is io.BytesIO:  # all of it is here
        return stream.read
    unreader = _gunicorns(stream)
    if unreader is not None:
        is_counted = hasattr(stream.reader, "length")
        kind = _of_length if is_counted else _of_chunks
        return lambda size: kind(stream, unreader, size, patience)
    if type(stream) is io.BufferedReader and environ.get("wsgi.url_scheme") != "https":
        descriptor = _blocking_socket(stream)
        if descriptor is not None:
            return lambda size: _of_buffer(stream, descriptor, size, patience)
    read: Read = stream.read
    return read


# --- gunicorn ----------------------------------------------------------------------------------


def _gunicorns(stream: Any) -> Any:
    """Return what gunicorn reads a body from; None if it is none of its bodies."""
    reader = getattr(stream, "reader", None)
    unreader = getattr(reader, "unreader", None)
    if unreader is None:
        unreader = getattr(getattr(reader, "req", None), "unreader", None)
    is_known = all(hasattr(unreader, name) for name in ("buf", "sock", "chunk"))
    return unreader if is_known and hasattr(stream, "buf") else None


def is_empty(stream: Any) -> bool:
    """Tell whether nothing comes, where that is seen without reading."""
    is_at_end = getattr(getattr(stream, "reader", None), "length", None) == 0
    return is_at_end and _gunicorns(stream) is not None and not stream.buf.tell()


def _of_length(stream: Any, unreader: Any, size: int, patience: Patience) -> bytes:
    """Read what gunicorn has, or what a single look at its socket brings."""
    if held := stream.buf.tell():
        found: bytes = stream.read(min(size, held))
        return found
    held = unreader.buf.tell()
    if not held and stream.reader.length:
        _wait_for_socket(unreader.sock, patience)
    # Of the reader: the body itself would ask for a kilobyte, and wait for all of it.
    found = stream.reader.read(min(size, max(1, held)))
    return found


def _of_chunks(stream: Any, unreader: Any, size: int, patience: Patience) -> bytes:
    # Its parser can't be interrupted: once begun, it waits as it would without raincheck.
    parser = getattr(stream.reader, "parser", None)
    is_new = isgenerator(parser) and getgeneratorstate(parser) == GEN_CREATED
    if is_new and not unreader.buf.tell():
        _wait_for_socket(unreader.sock, patience)
    found: bytes = stream.read(size)
    return found


def _wait_for_socket(connection: Any, patience: Patience) -> None:
    if not (hasattr(connection, "pending") and connection.pending()):  # decrypted already
        patience.wait_for(connection)


# --- http.server, of wsgiref and werkzeug ------------------------------------------------------


def _blocking_socket(stream: io.BufferedReader) -> int | None:
    """Return the descriptor of a stream that is a socket without a limit of time."""
    try:
        descriptor = stream.fileno()
        is_one = stat.S_ISSOCK(os.fstat(descriptor).st_mode) and os.get_blocking(descriptor)
    except (OSError, ValueError):  # there is no descriptor
        return None
    return descriptor if is_one else None


def _of_buffer(stream: io.BufferedReader, descriptor: int, size: int, patience: Patience) -> bytes:
    if found := _what_is_there(stream, descriptor, size):
        return found
    patience.wait_for(descriptor)
    return _what_is_there(stream, descriptor, size)  # none, if this is the end


def _what_is_there(stream: io.BufferedReader, descriptor: int, size: int) -> bytes:
    os.set_blocking(descriptor, False)
    try:
        return stream.read1(size)
    finally:
        os.set_blocking(descriptor, True)
