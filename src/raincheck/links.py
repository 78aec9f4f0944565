"""Where an operation is found, as seen from the request that asks. Pure.

R, the response URL, is `{prefix}/{id}`; M, the status URL, is `{R}/status`; what must not be
polled by accident is `{R}/result`. Most clients need absolute URLs; a proxy that rewrites paths
without saying so needs relative ones (RFC 3986 §4.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal
from urllib.parse import quote, unquote

from raincheck.messages import Request

Location = Literal["absolute", "path", "relative"]


class Resource(StrEnum):
    """The resources of an operation; the value is what follows R in the path."""

    RESPONSE = ""
    STATUS = "/status"
    RESULT = "/result"


@dataclass(frozen=True, slots=True)
class Links:
    """References to one operation: `url` for header fields, `path` for documents.

    `query` is in all of them.
    """

    base_url: str
    base_path: str
    query: str = ""

    def url(self, resource: Resource) -> str:
        """Refer to a resource in a header field."""
        return self.base_url + resource.value + self.query

    def path(self, resource: Resource) -> str:
        """Refer to a resource in a status document."""
        return self.base_path + resource.value + self.query

    def signed(self, signature: str) -> Links:
        """Return the links for somebody who may follow them by this signature only."""
        return replace(self, query=f"?{SIGNATURE}={signature}")


SIGNATURE = "signature"  # the query parameter


def signature_of(request: Request) -> str | None:
    """Return the signature that a request's URL has."""
    for parameter in request.query.split(b"&"):
        name, _, value = parameter.partition(b"=")
        if name == SIGNATURE.encode("ascii"):
            return value.decode("latin-1")
    return None


_PATH_SAFE = "/:@!$&'()*+,;="  # RFC 3986 §3.3, beside what `quote` never touches


def encode_path(path: str, also_safe: str = "") -> str:
    """Percent-encode a path, whatever is in it: when it is written, the operation is there."""
    return quote(path, safe=_PATH_SAFE + also_safe, errors="replace")


def _with_one_slash(path: str) -> str:
    """Keep a path from being read as another host (RFC 3986 §4.2)."""
    return "/" + path.lstrip("/") if path.startswith("//") else path


def route_path(path: str, root_path: str) -> str:
    """Strip the mount point: servers and frameworks put it in front of `path`, or don't."""
    if root_path and path.startswith(root_path):
        rest = path[len(root_path) :]
        if not rest or rest[0] == "/":
            return rest
    return path


_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_id(text: str) -> bool:
    """Tell whether a text can be an operation's id: no other one is ever looked up in a store."""
    return _ID.fullmatch(text) is not None


def parse_target(tail: str) -> tuple[str, Resource] | None:
    """Split what follows `{prefix}/` into an id and a resource; None if it is neither.

    One slash may follow: people and frameworks add it.
    """
    operation_id, slash, rest = tail.removesuffix("/").partition("/")
    if not is_id(operation_id) or slash + rest not in set(Resource):
        return None
    return operation_id, Resource(slash + rest)


PLACEHOLDER = "0" * 32  # for the id, in the path of R where the application has mounted it
_REMEMBERED = 64  # some servers take the root path from a header field


def fill(template: str | None, operation_id: str) -> str | None:
    """Return the path of an operation's R; None where it is not mounted but intercepted."""
    return template.replace(PLACEHOLDER, operation_id) if template is not None else None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an application has mounted the status monitor, for the client of one request.

    Attributes:
        template: The path of R, with a placeholder.
        above: What is before the id, as requests have it.
    """

    template: str
    above: str

    def covers(self, path: str) -> bool:
        """Tell whether a path, without the root path, may be that of an operation."""
        return path.startswith(self.above)


def looking_at(
    looks_at: Callable[[Any], Hashable],
) -> Callable[[Callable[[Any, str], str]], Callable[[Any, str], str]]:
    """Say of a `status_url` what its answer depends on, so that it need not be asked each time.

    Args:
        looks_at: Returns all of that, beside the root path, of the scope or environ.
    """

    def say(status_url: Any) -> Any:
        status_url.looks_at = looks_at
        return status_url

    return say


class Mount:
    """The status monitor where an application has mounted it.

    Args:
        status_url: The option of that name.
        looks_at: As for `looking_at`; default: what `status_url` was given there. Without either,
            it is asked for every request: nobody knows what it looks at.
    """

    def __init__(
        self,
        status_url: Callable[[Any, str], str],
        looks_at: Callable[[Any], Hashable] | None = None,
    ) -> None:
        self._status_url = status_url
        self._looks_at = looks_at or getattr(status_url, "looks_at", None)
        self._places: dict[tuple[str, Hashable], Place] = {}

    def place(self, source: Any, root_path: str) -> Place:
        """Say where the monitor is.

        Args:
            source: What `status_url` is given.
        """
        if self._looks_at is None:
            return self._ask(source, root_path)
        seen = root_path, self._looks_at(source)
        place = self._places.get(seen)
        if place is None:
            if len(self._places) >= _REMEMBERED:
                self._places.clear()
            place = self._places[seen] = self._ask(source, root_path)
        return place

    def _ask(self, source: Any, root_path: str) -> Place:
        path = self._status_url(source, PLACEHOLDER)
        above = route_path(unquote(path), root_path).partition(PLACEHOLDER)[0]
        # It may be encoded already, or be what a server has decoded.
        return Place(_with_one_slash(encode_path(path, also_safe="%")), above)


def local_path(request: Request, prefix: str, operation_id: str) -> str:
    """Place R below the root of the application that `request` came to."""
    root_path = encode_path(request.root_path.rstrip("/"))
    return _with_one_slash(f"{root_path}{prefix}/{operation_id}")


def locate(request: Request, path: str, location: Location, public_url: str | None = None) -> Links:
    """Say how `request`'s client can reach R, which lies at `path` (root path included)."""
    if location == "relative":
        reference = _relative(request, path)
        return Links(reference, reference)
    if location == "absolute" and public_url is not None:
        url = public_url.rstrip("/") + _below_root(path, request.root_path)
        return Links(url, "/" + url.split("/", 3)[3])
    return Links(((origin(request) or "") if location == "absolute" else "") + path, path)


def _relative(request: Request, path: str) -> str:
    """Climb from the request's own path; a client resolves this against the URL it used."""
    raw = _raw_path(request)
    here = _below_root(raw, request.root_path)
    # Each slash before the path begins a segment (RFC 3986 §5.2.4), which leads up from, too.
    more = 0 if request.root_path else len(raw) - len(raw.lstrip("/")) - 1
    depth = here.count("/") - 1 + max(0, more)
    return climb(depth, _below_root(path, request.root_path))


def climb(depth: int, path: str) -> str:
    """Write a path as seen from so many segments below where it begins."""
    rest = path.lstrip("/")
    if depth <= 0 and (not rest or ":" in rest.partition("/")[0]):
        return "./" + rest  # RFC 3986 §4.2: it would be a scheme
    return "../" * depth + rest


def _raw_path(request: Request) -> str:
    """Return the request's path as it was sent, as far as it can be written into a URL."""
    raw = request.raw_path.split(b"?")[0]
    return quote(raw, safe=_PATH_SAFE + "%") if raw else encode_path(request.path)


def request_path(request: Request, root: str | None = None) -> str:
    """Return path and query of a request as its client wrote them.

    Args:
        root: What is before the path below the root; default: the root path.
    """
    if root is None:
        root = encode_path(request.root_path.rstrip("/"))
    path = _with_one_slash(
        root + _with_one_slash(_below_root(_raw_path(request), request.root_path))
    )
    return f"{path}?{quote(request.query, safe=_PATH_SAFE + '%?')}" if request.query else path


def _below_root(path: str, root_path: str) -> str:
    """Strip the root path, which is decoded, from a path that is not, in whatever spelling."""
    path, root = _with_one_slash(path), _with_one_slash(root_path.rstrip("/"))
    if route_path(unquote(path), root) == unquote(path):
        return path
    return "/" + "/".join(path.split("/")[1 + root.count("/") :])


# What may stand in an authority (RFC 3986 §3.2.2); a Host that is more than that is hostile.
_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")


def origin(request: Request) -> str | None:
    """Return scheme and authority the client used; None if its `Host` can't be trusted in a URL."""
    host = request.header(b"host")
    if host is None and request.server and request.server[1] is not None:
        name, port = request.server
        host = (f"[{name}]:{port}" if ":" in name else f"{name}:{port}").encode("latin-1")
    if host is None or not _AUTHORITY.fullmatch(host) or request.scheme not in ("http", "https"):
        return None
    return f"{request.scheme}://{host.decode('ascii')}"
