"""Requests as bytes, and responses as they come: no client library puts anything in order."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from tests.runners.exact.material import HERE

TIMEOUT = 120.0  # seconds; a machine under load is slow


@dataclass(frozen=True)
class Asked:
    """A request; `{way}` in its target stands for what it is asked below.

    Attributes:
        body: Bytes, or pieces, which are sent chunked.
    """

    target: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Iterable[bytes] | None = None
    root: str = ""

    def at(self, way: str) -> Asked:
        """Return the request of one way."""
        return replace(self, target=self.target.replace("{way}", way))

    def adding(self, *headers: tuple[str, str]) -> Asked:
        """Return the request with more header fields."""
        return replace(self, headers=(*self.headers, *headers))


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return the values of a header field."""
        return [value for each, value in self.headers if each.lower() == name]

    def __getitem__(self, name: str) -> str:
        [value] = self.all(name)
        return value


def ask(port: int, asked: Asked) -> Answer:
    """Send a request over a connection of its own, and read the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        target = f"{asked.root}{asked.target}"
        connection.putrequest(asked.method, target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", "shop.example")
        for name, value in asked.headers:
            connection.putheader(name, value.encode("utf-8"))
        body: Any = asked.body
        if isinstance(body, bytes):
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
        elif body is not None and any(
            name.lower() == "content-length" for name, _ in asked.headers
        ):
            connection.endheaders()
            for piece in body:
                connection.send(piece)
        elif body is not None:
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders(body, encode_chunked=True)
        else:
            connection.endheaders()
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), response.read())
    finally:
        connection.close()


# --- comparing ---------------------------------------------------------------------------------

# Of the exchange and not the handler (RFC 9110 §7.6.1), or added by raincheck to what it replays.
_OF_EXCHANGE = {"date", "server", "connection", "transfer-encoding"}
_ADDED = {"operation-status", "cache-control", "etag", "accept-ranges", "content-length"}
_DROPPED = {"set-cookie"}


def sent_by_handler(answer: Answer, way: str = HERE) -> Answer:
    """Return what a handler itself has sent, as it would be below `/here`."""
    dropped = _OF_EXCHANGE | _DROPPED
    kept = [_varied(n.lower(), v) for n, v in answer.headers if n.lower() not in dropped]
    kept = [field for field in kept if field != ("vary", "")]
    body = answer.body
    if ("content-encoding", "gzip") in kept:
        body = gzip.decompress(body)  # Django adds some random bytes to what it compresses
        kept = [(name, value) for name, value in kept if name != "content-length"]
    here = [(name, value.replace(way, HERE)) for name, value in kept]
    return Answer(answer.status, here, body.replace(way.encode(), HERE.encode()))


def _varied(name: str, value: str) -> tuple[str, str]:
    """Leave out what Django's sessions say, which are outside raincheck: R is of its own client."""
    if name != "vary":
        return name, value
    return name, ", ".join(part for part in value.split(", ") if part != "Cookie")


def without_added(replayed: Answer, original: Answer) -> Answer:
    """Return a replay without what raincheck has added to what the handler sent."""
    own = {name for name, _ in original.headers}
    added = _ADDED - own
    return replace(replayed, headers=[f for f in replayed.headers if f[0] not in added])
