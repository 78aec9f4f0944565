"""URLs of a request and below its root, as they are written into header fields (RFC 3986). Pure."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import quote, unquote

from raincheck.http.messages import Request

Location = Literal["absolute", "path", "relative"]


_PATH_SAFE = "/:@!$&'()*+,;="  # RFC 3986 §3.3, beside what `quote` never touches
QUERY_SAFE = _PATH_SAFE + "%?"


def encode_path(path: str, also_safe: str = "") -> str:
    """Percent-encode a path, whatever is in it: when it is written, the operation is there."""
    return quote(path, safe=_PATH_SAFE + also_safe, errors="replace")


def with_one_slash(path: str) -> str:
    """Keep a path from being read as another host (RFC 3986 §4.2)."""
    return "/" + path.lstrip("/") if path.startswith("//") else path


def route_path(path: str, root_path: str) -> str:
    """Strip the mount point: servers and frameworks put it in front of `path`, or don't."""
    if root_path and path.startswith(root_path):
        rest = path[len(root_path) :]
        if not rest or rest[0] == "/":
            return rest
    return path


def climb(depth: int, path: str) -> str:
    """Write a path as seen from so many segments below where it begins."""
    rest = path.lstrip("/")
    if depth <= 0 and (not rest or ":" in rest.partition("/")[0]):
        return "./" + rest  # RFC 3986 §4.2: it would be a scheme
    return "../" * depth + rest


def raw_path(request: Request) -> str:
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
    path = with_one_slash(root + with_one_slash(below_root(raw_path(request), request.root_path)))
    return f"{path}?{quote(request.query, safe=QUERY_SAFE)}" if request.query else path


def below_root(path: str, root_path: str) -> str:
    """Strip the root path, which is decoded, from a path that is not, in whatever spelling."""
    path, root = with_one_slash(path), with_one_slash(root_path.rstrip("/"))
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
