"""References in a handler's header fields, so that they mean at R what they meant to the request.

A client resolves what is relative against the URL that it has fetched (RFC 9110 §10.2.2, RFC 8288
§3.2), and that is R. What begins with a slash or a scheme means the same at both. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urljoin, urlsplit

from raincheck.http.messages import Headers, Request
from raincheck.http.urls import Location, climb, request_path

_MEANS_THE_SAME = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True, slots=True)
class Base:
    """What the references of a response are relative to.

    Attributes:
        target: Path and query of the request.
        depth: Of R below the root, where a path from there is of no use to clients; None: it is.
    """

    target: str
    depth: int | None = None

    def resolve(self, reference: str) -> str:
        """Return a reference that means at R what the given one means here."""
        if _MEANS_THE_SAME.match(reference):
            return reference
        try:
            path = urljoin(self.target, reference)
        except ValueError:  # no reference at all
            return reference
        path = "/" + path.lstrip("/")  # or `.//evil.test` would lead to another host
        return path if self.depth is None else climb(self.depth, path)


def base_of(
    request: Request, location: Location, public_url: str | None, prefix: str | None
) -> Base:
    """Say what the references of a response to `request` are relative to.

    Args:
        prefix: Below which R lies; None: nobody knows.
    """
    if location == "relative" and prefix is not None:
        return Base(request_path(request, ""), prefix.count("/"))
    if location == "absolute" and public_url is not None:
        return Base(request_path(request, urlsplit(public_url).path.rstrip("/")))
    return Base(request_path(request))


def resolve_all(headers: Headers, base: Base) -> Headers:
    """Return header fields as they are to be sent at R."""
    return tuple(
        (name, _WRITERS[name.lower()](value, base) if name.lower() in _WRITERS else value)
        for name, value in headers
    )


def _resolved(reference: bytes, base: Base) -> bytes:
    return base.resolve(reference.decode("latin-1")).encode("latin-1")


_TARGET = re.compile(rb'"(?:[^"\\]|\\.)*+"?|<([^<>"]*+)>')


def _link(value: bytes, base: Base) -> bytes:
    """Resolve the targets of links (RFC 8288 §3), which parameters in quotes are none of."""
    return _TARGET.sub(partial(_target, base=base), value)


def _target(found: re.Match[bytes], base: Base) -> bytes:
    return found[0] if found[1] is None else b"<%s>" % _resolved(found[1], base)


# HTML, "shared declarative refresh steps"
_REFRESH = re.compile(rb"([\d.]*+[ \t]*+[;,][ \t]*+(?:url[ \t]*+=[ \t]*+)?)(.+)", re.IGNORECASE)


def _refresh(value: bytes, base: Base) -> bytes:
    match = _REFRESH.fullmatch(value)
    if match is None:
        return value
    before, url = match.groups()
    quote = url[:1] if url[:1] in (b"'", b'"') else b""
    reference = url[1:].partition(quote)[0] if quote else url
    return before + quote + _resolved(reference, base) + quote


_WRITERS: Mapping[bytes, Callable[[bytes, Base], bytes]] = {
    b"location": _resolved,
    b"content-location": _resolved,
    b"link": _link,
    b"refresh": _refresh,
}
