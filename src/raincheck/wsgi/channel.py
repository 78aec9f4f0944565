"""A response on its way from the handler's thread to the server's.

The server sees what it sees of an application's own iterable: pieces are made when it asks for
them, and `close()` has been called when its own `close()` returns, and raises there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from raincheck.wsgi.news import News

TAIL_SECONDS = 1.0  # that the server waits for the end of a response that is complete


class Channel:
    """Pieces that one thread puts and another one takes.

    Args:
        news: What the two tell each other.
        is_ahead: Whether the second piece may be made before it is asked for.

    Attributes:
        whole: The body as the application returned it, if all of it was in memory.
    """

    whole: Iterable[bytes] | None = None
    _is_asked = False  # for the next piece
    _has_all = False  # of the declared length
    _is_over = False  # nothing more comes
    _is_abandoned = False  # nothing more is taken
    _is_left = False  # nobody waits for its end any more
    _is_closed = False
    _error: BaseException | None = None
    _error_in_close: BaseException | None = None

    def __init__(self, news: News, *, is_ahead: bool = True) -> None:
        self._news = news
        self._lock = news.lock
        self._pieces: deque[bytes] = deque()
        self._waits = not is_ahead  # after a piece

    # --- the handler's thread ------------------------------------------------------------------

    def put(self, *pieces: bytes, is_last: bool = False) -> bool:
        """Hand over pieces, and wait until another one is asked for.

        The second may be made before: most responses have none, and have ended when they are taken.
        (Not if `is_ahead` is False.)

        Returns:
            False if nobody takes any more.
        """
        with self._lock:
            waits, self._waits = self._waits, True
            self._pieces.extend(pieces)
            self._has_all = self._has_all or is_last
            self._news.tell()
        if waits:
            self._news.wait_for(self._is_wanted)
        return not self._is_abandoned

    def _is_wanted(self) -> bool:
        return self._is_abandoned or (self._is_asked and not self._pieces)

    def put_whole(self, body: Iterable[bytes]) -> None:
        """Have a body that is in memory ready as it is: servers look at its length.

        The server's thread is told by who comes next.
        """
        self.whole, self._is_over = body, True

    def end(self, error: BaseException | None = None, *, tells: bool = True) -> None:
        """Say that no more comes, or what was raised instead.

        Args:
            tells: Whether the server's thread is told now; else by who comes next.
        """
        with self._lock:
            if not self._is_over:
                self._is_over, self._error = True, error
            if tells:
                self._news.tell()

    def cut(self, error: BaseException) -> None:
        """Say that the response ends too early; one who takes no more need not be told."""
        with self._lock:
            if not self._is_abandoned:  # or the traceback would keep this object
                self.end(error)

    def break_off(self, error: BaseException) -> None:
        """Say that the handler's thread is gone, and will neither put nor close anything."""
        with self._lock:
            self.cut(error)
            self._is_closed = True
            self._news.tell()

    def until_closed(self) -> None:
        """Wait until the server takes no more, or does not care."""
        self._news.wait_for(lambda: self._is_abandoned)

    def closed(self, error: BaseException | None = None) -> BaseException | None:
        """Say that the application's iterable is closed, or what that has raised.

        The server's thread is told by who comes next.

        Returns:
            What was raised, there or before, and the server will not be told.
        """
        with self._lock:
            self._is_closed = True
            if not self._is_left:
                self._error_in_close, error = error, None
            if error is None and self._is_abandoned:
                error, self._error = self._error, None
            return error

    # --- the server's thread -------------------------------------------------------------------

    def wait(self) -> None:
        """Wait for the beginning of the response, or for what was raised instead of it."""
        if not self.has_begun():
            self._news.wait_for(self.has_begun)

    def has_begun(self) -> bool:
        """Tell whether there is a piece, or the end."""
        return bool(self._pieces) or self._is_over

    def raise_error(self) -> None:
        """Raise what the application has raised, if it has."""
        errors, self._error = [self._error], None
        _raise(errors)

    def take(self) -> bytes:
        """Return the next piece.

        Raises:
            StopIteration: There is none.
        """
        if not self.has_begun():
            self._ask()
        with self._lock:
            if self._pieces:
                return self._pieces.popleft()
        self.raise_error()
        raise StopIteration

    def _ask(self) -> None:
        with self._lock:
            self._is_asked = True
            self._news.tell()
            # A client has what it waits for, however long the application goes on.
            most = TAIL_SECONDS if self._has_all else None
        has_come = self._news.wait_for(self.has_begun, most)
        with self._lock:
            self._is_asked = False
            if not has_come:
                self.abandon()

    def close(self) -> None:
        """Say that the server takes no more, and wait until the application's iterable is closed.

        Raises:
            BaseException: That has raised it.
        """
        with self._lock:
            waits = not self._is_abandoned
            if waits:
                self._give_up()
        if waits:
            self._news.wait_for(lambda: self._is_closed)
        errors, self._error_in_close = [self._error_in_close], None
        _raise(errors)

    def abandon(self) -> None:
        """Say that the server takes no more, and does not wait."""
        with self._lock:
            self._is_left = True
            self._give_up()

    def _give_up(self) -> None:
        self._is_abandoned = True
        self._pieces.clear()
        if self._is_closed:  # an error in what was made ahead; its traceback refers to this object
            self._error = None
        self._news.tell()


def _raise(errors: list[BaseException | None]) -> None:
    """Raise the one that a list has, if any; it is taken out, as its traceback refers to here."""
    error = errors.pop()
    if error is not None:
        try:
            raise error
        finally:
            del error


class Outlet:
    """What a server iterates and closes; if it forgets to, the handler's thread goes on as well."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._channel.take()

    def close(self) -> None:
        """Say that nothing more is taken, and wait until the application's iterable is closed."""
        self._channel.close()

    def __del__(self) -> None:
        self._channel.abandon()
