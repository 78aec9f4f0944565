"""A request as it came, of which an operation may be made; Django's is one, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from raincheck.engine.start import Captured
from raincheck.http.messages import Request
from raincheck.wsgi.request_body import pieces
from raincheck.wsgi.translation import as_it_came, certified_user, to_request

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class Arrival:
    """What a deferral needs of a request; how it has it is with the subclasses."""

    @property
    def is_authenticated(self) -> bool:
        """Whether it is known by now whose it is: here, what knows it is inside."""
        return False

    @property
    def environ(self) -> Mapping[str, Any]:
        """The environ as the server gave it."""
        raise NotImplementedError

    def askable(self) -> Iterator[Any]:
        """Yield what `owner` is given in turn, as long as it names nobody."""
        raise NotImplementedError

    def describe(self) -> Request:
        """Return the request as it came, without its body."""
        raise NotImplementedError

    def body(self) -> Iterable[bytes] | None:
        """Return its body, without disturbing its handler; None if it can't be had."""
        raise NotImplementedError

    def trusted_user(self) -> str | None:
        """Name the user whom the server says it comes from, by a certificate or otherwise."""
        return self.environ.get("REMOTE_USER") or certified_user(self.environ)

    def capture_request(self) -> Captured | None:
        """Return what it can be run again from; None if it can't."""
        body = self.body()
        # A user whom no field names can't be told again.
        if body is None or self.trusted_user() is not None:
            return None
        return Captured(self.describe_for_rerun(), body)

    def describe_for_rerun(self) -> Request:
        """Return the request so that nothing of it is lost."""
        return self.describe()


class EnvironArrival(Arrival):
    """A request that a server has called the application for.

    Args:
        environ: As the server gave it.
        inside: As the application is given it.
        body: The request's, read ahead.
    """

    def __init__(self, environ: WSGIEnvironment, inside: WSGIEnvironment, body: IO[bytes]) -> None:
        self._environ = environ
        self._inside = inside
        self._body = body
        self._is_left = False

    def leave_server(self, *, keeps: bool) -> None:
        """Let go of what belongs to the server; what describes the request are strings.

        Args:
            keeps: Whether those may still be needed.
        """
        described = {k: v for k, v in self._environ.items() if isinstance(v, str)}
        self._environ, self._is_left = described if keeps else {}, True

    @property
    def environ(self) -> WSGIEnvironment:
        """The environ as the server gave it."""
        return self._environ

    def askable(self) -> Iterator[WSGIEnvironment]:
        """Yield the environ as the server gave it, and with what was added to it inside."""
        if not self._is_left:
            yield self._environ
        yield self._inside | self._environ
        yield self._environ | self._inside  # a user may be in the place of none

    def describe(self) -> Request:
        """Return the request as it came, without its body."""
        return to_request(self._environ)

    def describe_for_rerun(self) -> Request:
        """Return the request so that nothing of it is lost: not all paths are UTF-8."""
        return as_it_came(self.describe(), self._environ)

    def body(self) -> Iterable[bytes] | None:
        """Return its body; None if the handler has closed it."""
        return pieces(self._body)
