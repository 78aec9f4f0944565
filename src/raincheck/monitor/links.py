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
from typing import Any
from urllib.parse import unquote

from raincheck.http.messages import Request
from raincheck.http.urls import (
    Location,
    below_root,
    climb,
    encode_path,
    origin,
    raw_path,
    route_path,
    with_one_slash,
)


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

    def seen_from(self, request: Request) -> Links:
        """Return the links for a client that resolves them against the URL of its request."""
        if not self.base_path.startswith("/"):  # they are so already
            return self
        name = self.base_path.rpartition("/")[2]
        is_here = raw_path(request).rpartition("/")[2] == name
        reference = name if is_here else _relative(request, self.base_path)
        return Links(reference, reference, self.query)

    def signed(self, signature: str) -> Links:
        """Return the links for somebody who may follow them by this signature only."""
        return replace(self, query=f"?{SIGNATURE}={signature}")


SIGNATURE = "signature"  # the query parameter


def signature_of(request: Request) -> str | None:
    """Return the signature that a request's URL has."""
    value = request.parameter(SIGNATURE.encode("ascii"))
    return None if value is None else value.decode("latin-1")


_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_id(text: str) -> bool:
    """Tell whether a text can be an operation's id: no other one is ever looked up in a store."""
    return _ID.fullmatch(text) is not None


_RESOURCES = {each.value: each for each in Resource}
SCRIPT = "client.js"  # in the place of an id, and can't be one


def parse_target(tail: str) -> tuple[str, Resource] | None:
    """Split what follows `{prefix}/` into an id and a resource; None if it is neither.

    One slash may follow: people and frameworks add it.
    """
    if tail == SCRIPT:
        return SCRIPT, Resource.RESPONSE
    operation_id, slash, rest = tail.removesuffix("/").partition("/")
    resource = _RESOURCES.get(slash + rest)
    return None if resource is None or not is_id(operation_id) else (operation_id, resource)


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
        return Place(with_one_slash(encode_path(path, also_safe="%")), above)


def local_path(request: Request, prefix: str, operation_id: str) -> str:
    """Place R below the root of the application that `request` came to."""
    root_path = encode_path(request.root_path.rstrip("/"))
    return with_one_slash(f"{root_path}{prefix}/{operation_id}")


def locate(request: Request, path: str, location: Location, public_url: str | None = None) -> Links:
    """Say how `request`'s client can reach R, which lies at `path` (root path included)."""
    if location == "relative":
        reference = _relative(request, path)
        return Links(reference, reference)
    if location == "absolute" and public_url is not None:
        url = public_url.rstrip("/") + below_root(path, request.root_path)
        return Links(url, "/" + url.split("/", 3)[3])
    return Links(((origin(request) or "") if location == "absolute" else "") + path, path)


def _relative(request: Request, path: str) -> str:
    """Climb from the request's own path; a client resolves this against the URL it used."""
    raw = raw_path(request)
    here = below_root(raw, request.root_path)
    # Each slash before the path begins a segment (RFC 3986 §5.2.4), which leads up from, too.
    more = 0 if request.root_path else len(raw) - len(raw.lstrip("/")) - 1
    depth = here.count("/") - 1 + max(0, more)
    return climb(depth, below_root(path, request.root_path))
