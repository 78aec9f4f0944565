"""Clients that wait: a 202 is followed to its end, and the final response is returned.

`Transport` and `AsyncTransport` are for httpx, `Adapter` is for requests. Needs
`pip install "raincheck[client]"`, of which each takes its own library only.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from raincheck.client.errors import (
    CredentialsRefused,
    DeadlineExceeded,
    FollowError,
    InvalidToken,
    LostTouch,
    NothingToFollow,
    RedirectLoop,
)
from raincheck.client.options import Options, Progress

if TYPE_CHECKING:
    from raincheck.client.httpx_transport import AsyncTransport, Transport
    from raincheck.client.requests_adapter import Adapter
    from raincheck.client.resuming import resume, resume_async, resume_session

__all__ = [
    "Adapter",
    "AsyncTransport",
    "CredentialsRefused",
    "DeadlineExceeded",
    "FollowError",
    "InvalidToken",
    "LostTouch",
    "NothingToFollow",
    "Options",
    "Progress",
    "RedirectLoop",
    "Transport",
    "resume",
    "resume_async",
    "resume_session",
]

_NEEDED = 'raincheck.client needs {}: pip install "raincheck[client]"'
_LATE = {
    "Adapter": ("requests_adapter", "requests"),
    "AsyncTransport": ("httpx_transport", "httpx"),
    "Transport": ("httpx_transport", "httpx"),
    "resume": ("resuming", "httpx"),
    "resume_async": ("resuming", "httpx"),
    "resume_session": ("resuming", "requests"),
}

if find_spec("httpx") is None and find_spec("requests") is None:
    raise ModuleNotFoundError(_NEEDED.format("httpx or requests"), name="httpx")


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, library = _LATE[name]
    try:
        return getattr(import_module(f"raincheck.client.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise ModuleNotFoundError(_NEEDED.format(library), name=library) from error
