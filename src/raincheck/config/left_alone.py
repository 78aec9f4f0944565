"""Requests of clients that read what comes themselves, and could do nothing with a 202. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from raincheck.errors import ConfigurationError
from raincheck.http.preferences import asks_for, asks_for_events

# One of these is in every request of any kind: a field, a field of that value, a part of `Accept`,
# a part of the query.
FIELDS = (b"mcp-session-id", b"mcp-protocol-version")
DESTINATION, NOWHERE = b"sec-fetch-dest", b"empty"
IN_ACCEPT = b"event-stream"
IN_QUERY = b"EIO="

Field = Callable[[bytes], bytes | None]  # returns the value of a header field by its name
_Asks = Callable[[Field, bytes], bool]


def _wants_events(field: Field, query: bytes) -> bool:
    return asks_for_events(field(b"accept"))


def _is_of_mcp(field: Field, query: bytes) -> bool:
    """Tell whether a request is one of the Model Context Protocol (Streamable HTTP)."""
    if any(field(name) is not None for name in FIELDS):
        return True
    accept = field(b"accept")  # the first of a session has nothing else
    return asks_for_events(accept) and asks_for(b"application/json", accept)


def _is_polled_by_engine_io(field: Field, query: bytes) -> bool:
    """Tell whether a request is a poll of Engine.IO, which Socket.IO is made of."""
    if IN_QUERY not in query:
        return False
    names = {member.partition(b"=")[0] for member in query.split(b"&")}
    return {b"EIO", b"transport"} <= names


def _is_download(field: Field, query: bytes) -> bool:
    """Tell whether a browser saves whatever it is answered: a link with the attribute `download`.

    Chromium and its kin say so: it navigates, and to nowhere.
    """
    return field(DESTINATION) == NOWHERE and field(b"sec-fetch-mode") == b"navigate"


KINDS: dict[str, _Asks] = {
    "events": _wants_events,
    "mcp": _is_of_mcp,
    "engine.io": _is_polled_by_engine_io,
    "download": _is_download,
}


class LeftAlone:
    """Tells which requests are never deferred, whatever their path and preference.

    Args:
        kinds: Of requests, by their names in `KINDS`.

    Raises:
        ConfigurationError: There is no such kind.
    """

    def __init__(self, kinds: Iterable[str] = tuple(KINDS)) -> None:
        if isinstance(kinds, str) or not isinstance(kinds, Iterable):
            raise ConfigurationError(f"give left_alone a list of kinds, not {kinds!r}")
        self.kinds = tuple(kinds)
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            known = ", ".join(KINDS)
            raise ConfigurationError(f"left_alone has {known}, unlike {unknown[0]!r}")
        self._asks = [KINDS[kind] for kind in self.kinds]

    def __call__(self, field: Field, query: bytes) -> bool:
        """Tell whether a request is to be left alone.

        Args:
            field: Returns the value of a header field by its name in lower case.
            query: As it was sent.
        """
        return any(asks(field, query) for asks in self._asks)
