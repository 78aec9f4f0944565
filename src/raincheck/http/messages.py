"""HTTP messages as values, and what the standards say about reading their header fields.

Header fields are a tuple of byte pairs in the order they came, repeated ones included: a dict
loses the second `Set-Cookie`. Everything here is about HTTP and nothing about operations. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

Headers = tuple[tuple[bytes, bytes], ...]

# RFC 9110 §7.6.1, and what older peers take for connection fields.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
WITHOUT_CONTENT = frozenset({204, 304})


@dataclass(frozen=True)
class Request:
    """A request as it reached the application, enough to run it again.

    `path` is decoded and includes `root_path` as the server gave it, `raw_path` is as it was sent.
    Where the body is kept, it has `length` bytes in chunks of `chunk_size`, the last one shorter.
    """

    method: str
    path: str
    scheme: str = "http"
    http_version: str = "1.1"
    raw_path: bytes = b""
    query: bytes = b""
    root_path: str = ""
    headers: Headers = ()
    client: tuple[str, int] | None = None
    server: tuple[str, int | None] | None = None
    length: int = 0
    chunk_size: int = 0

    def header(self, name: bytes) -> bytes | None:
        """Return the field's value, repeated ones joined (RFC 9110 §5.3); None where absent."""
        return self._fields.get(name)

    @cached_property
    def _fields(self) -> Mapping[bytes, bytes]:
        """All values by their names: a poll is asked for some twenty."""
        found: dict[bytes, bytes] = {}
        for key, value in self.headers:
            name = key.lower()
            found[name] = b"%s, %s" % (found[name], value) if name in found else value
        return found

    def parameter(self, name: bytes) -> bytes | None:
        """Return the value of a parameter of the query as it came; None where absent."""
        for each in self.query.split(b"&"):
            key, _, value = each.partition(b"=")
            if key == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class StoredBody:
    """The bytes `start` to `stop` (exclusive) of a body that the store keeps in chunks."""

    operation_id: str
    fence: int
    chunk_size: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Response:
    """A response to send; its body is here or in the store."""

    status: int
    headers: Headers = ()
    body: bytes | StoredBody = b""
    trailers: Headers = ()

    def header(self, name: bytes) -> bytes | None:
        """Return the field's value, repeated ones joined (RFC 9110 §5.3); None where absent."""
        return field_value(self.headers, name)


def field_value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return the value of a field, repeated ones joined with a comma (RFC 9110 §5.3)."""
    values = [value for key, value in headers if key.lower() == name]
    return b", ".join(values) if values else None


def without(headers: Iterable[tuple[bytes, bytes]], names: frozenset[bytes]) -> Headers:
    """Drop the named fields and keep the rest in order."""
    return tuple((name, value) for name, value in headers if name.lower() not in names)


def connection_options(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Name the fields that `Connection` declares hop-by-hop (RFC 9110 §7.6.1)."""
    value = field_value(headers, b"connection") or b""
    return frozenset(option.strip().lower() for option in value.split(b",")) - {b""}


def for_method(method: str, response: Response) -> Response:
    """Send a HEAD the header fields that a GET would get, and no content (RFC 9110 §9.3.2)."""
    return replace(response, body=b"") if method == "HEAD" else response
