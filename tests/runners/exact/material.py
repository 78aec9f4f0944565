"""What the applications have in common: their ways, options, and what they make of a request.

Each has the same routes below `/here`, `/mark` and `/rule`: handlers that run where they were
asked, those that are marked, and those that a path rule leaves to workers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from raincheck import long_running
from raincheck.runners.celery import CeleryWorkers
from tests.servers.material import OPTIONS

HERE, MARK, RULE = WAYS = ("here", "mark", "rule")  # of one length
SECRET = "of these tests"  # noqa: S105
TEXT = "so many words, " * 1000
PIECES = [b"first,", b"", b"second\n" * 5000, b"\xff\x00last"]
FIELDS = [("X-Twice", "1"), ("X-Twice", "\xff2"), ("Link", "</a>; rel=next"), ("Link", "</b>")]
BROKER = os.environ.get("TEST_BROKER")
RAINCHECK: dict[str, Any] = {
    "application": "exact",
    "budget": 60,
    "runners": {f"/{RULE}/**": "workers"},
    "limits": {"request_body": 256 * 1024 * 1024},
    **(
        {"workers": {"workers": CeleryWorkers("tests.runners.exact.tasks:celery")}}
        if BROKER
        else {}
    ),
    **OPTIONS,
}
_F = TypeVar("_F", bound=Callable[..., Any])


def marked(way: str, handler: _F) -> _F:
    """Mark a handler, if it is of that way."""
    return long_running(runner="workers")(handler) if way == MARK else handler


def digest(pieces: Iterable[bytes]) -> dict[str, Any]:
    """Describe a body."""
    hashed, length = hashlib.sha256(), 0
    for piece in pieces:
        hashed.update(piece)
        length += len(piece)
    return {"length": length, "sha256": hashed.hexdigest()}


# Two requests have other ports, and a worker is no server; there are two names of one thing.
_NOT_OF_REQUEST = ("REMOTE_PORT", "HTTP_PREFER", "SERVER_SOFTWARE", "REQUEST_URI")


def environ_of(environ: Mapping[str, Any]) -> dict[str, Any]:
    """Return the texts of an environ."""
    texts = {key: value for key, value in environ.items() if isinstance(value, str)}
    return {key: texts[key] for key in sorted(texts) if key not in _NOT_OF_REQUEST}


def scope_of(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a scope tells of a request."""
    names = ("type", "http_version", "method", "scheme", "path", "root_path", "server")
    found = {name: scope.get(name) for name in names}
    found |= {name: scope[name].decode("latin-1") for name in ("raw_path", "query_string")}
    fields = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]]
    return {
        **found,
        "server": list(scope.get("server") or ()),
        "client": list(scope.get("client") or ())[:1],
        "headers": [field for field in fields if field[0] != "prefer"],
    }
