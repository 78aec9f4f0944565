"""Where an operation is found, as seen from the request that asks. Pure.

R, the response URL, is `{prefix}/{id}`; M, the status URL, is `{R}/status`; what must not be
polled by accident is `{R}/result`. Most clients need absolute URLs; a proxy that rewrites paths
without saying so needs relative ones (RFC 3986 §4.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal
from urllib.parse import quote

from raincheck.messages import Request

Location = Literal["absolute", "path", "relative"]


class Resource(StrEnum):
    """The resources of an operation; the value is what follows R in the path."""

    RESPONSE = ""
    STATUS = "/status"
    RESULT = "/result"


@dataclass(frozen=True, slots=True)
class Links:
    """References to one operation: `url` for header fields, `path` for documents."""

    base_url: str
    base_path: str

    def url(self, resource: Resource) -> str:
        """Refer to a resource in a header field."""
        return self.base_url + resource.value

    def path(self, resource: Resource) -> str:
        """Refer to a resource in a status document."""
        return self.base_path + resource.value


_PATH_SAFE = "/:@!$&'()*+,;="  # RFC 3986 §3.3, beside what `quote` never touches


def route_path(path: str, root_path: str) -> str:
    """Strip the mount point: servers and frameworks put it in front of `path`, or don't."""
    if root_path and path.startswith(root_path):
        rest = path[len(root_path) :]
        if not rest or rest[0] == "/":
            return rest
    return path


def parse_target(tail: str) -> tuple[str, Resource] | None:
    """Split what follows `{prefix}/` into an id and a resource; None if it is neither."""
    operation_id, _, rest = tail.rstrip("/").partition("/")
    resource = f"/{rest}" if rest else ""
    if not operation_id or resource not in set(Resource):
        return None
    return operation_id, Resource(resource)


def local_path(request: Request, prefix: str, operation_id: str) -> str:
    """Place R below the root of the application that `request` came to."""
    return f"{quote(request.root_path.rstrip('/'), safe=_PATH_SAFE)}{prefix}/{operation_id}"


def locate(request: Request, path: str, location: Location, public_url: str | None = None) -> Links:
    """Say how `request`'s client can reach R, which lies at `path` (root path included)."""
    if location == "relative":
        reference = _relative(request, path)
        return Links(reference, reference)
    if location == "absolute" and public_url is not None:
        url = public_url.rstrip("/") + route_path(path, request.root_path.rstrip("/"))
        return Links(url, "/" + url.split("/", 3)[3])
    return Links(((origin(request) or "") if location == "absolute" else "") + path, path)


def _relative(request: Request, path: str) -> str:
    """Climb from the request's own path; a client resolves this against the URL it used."""
    raw = request.raw_path.split(b"?")[0].decode("latin-1") or request.path
    here, root = route_path(raw, request.root_path), request.root_path.rstrip("/")
    return "../" * max(0, here.count("/") - 1) + route_path(path, root).lstrip("/")


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
