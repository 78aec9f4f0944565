"""Between ASGI's dictionaries and `raincheck.http.messages`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from raincheck.http.messages import Request, Response, for_method

if TYPE_CHECKING:
    from starlette.types import Scope, Send

_TRAILERS = "http.response.trailers"


def to_request(scope: Scope, path: str, root_path: str) -> Request:
    """Describe the request of a scope, without its body.

    Args:
        path: The scope's path when it reached the middleware; frameworks change it in place.
        root_path: The scope's root path then.
    """
    return Request(
        method=scope["method"],
        path=path,
        scheme=scope.get("scheme", "http"),
        http_version=scope.get("http_version", "1.1"),
        raw_path=scope.get("raw_path") or b"",
        query=scope.get("query_string", b""),
        root_path=root_path,
        headers=tuple([(bytes(name), bytes(value)) for name, value in scope["headers"]]),
        client=_address(scope.get("client")),
        server=_address(scope.get("server")),
    )


def to_pairs(headers: Iterable[Iterable[bytes]]) -> list[Any]:
    """List header fields, which ASGI has as an iterable of iterables of two."""
    return [field if type(field) in (list, tuple) else tuple(field) for field in headers]


def to_scope(request: Request) -> Scope:
    """Make a scope of a captured request, as a server that can do nothing special would."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.http_version,
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query,
        "root_path": request.root_path,
        "headers": list(request.headers),
        "client": request.client,
        "server": request.server,
        "extensions": {},
    }


_OF_RESPONSES = "http.response."
# Not `zerocopysend`: a file that is no regular one can be read once only.
_PASSED = frozenset(
    _OF_RESPONSES + name for name in ("debug", "early_hint", "pathsend", "push", "trailers")
)


def extensions_of(scope: Scope, *, passes: bool) -> dict[str, Any]:
    """Return what a server offers that holds for a response that is recorded.

    What it tells of the request is true in any case. What it can do with a response, the one that
    replays it may not.

    Args:
        passes: Whether the response may go to the client as well.
    """
    offered: dict[str, Any] = scope.get("extensions") or {}
    return {
        name: value
        for name, value in offered.items()
        if not name.startswith(_OF_RESPONSES) or (passes and name in _PASSED)
    }


def _address(pair: tuple[str, int] | list[object] | None) -> tuple[str, int] | None:
    return (str(pair[0]), pair[1]) if pair else None  # type: ignore[return-value]


def has_body(scope: Scope) -> bool:
    """Tell whether a body may follow (RFC 9112 §6): in HTTP/1 a header field announces it."""
    if scope.get("http_version", "1.1") not in ("1.0", "1.1"):
        return True
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ")):
            return True
    return False


async def send_response(scope: Scope, send: Send, response: Response) -> None:
    """Send a response whose body is in memory."""
    response = for_method(scope["method"], response)
    await send_start(scope, send, response)
    body = response.body if isinstance(response.body, bytes) else b""
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_start(scope: Scope, send: Send, response: Response) -> bool:
    """Send status and header fields; tell whether trailers are to follow."""
    message = {
        "type": "http.response.start",
        "status": response.status,
        "headers": list(response.headers),
    }
    with_trailers = bool(response.trailers) and _TRAILERS in (scope.get("extensions") or {})
    if with_trailers:
        message["trailers"] = True
    await send(message)
    return with_trailers


async def send_trailers(send: Send, response: Response) -> None:
    """Send the trailer fields of a response that has them."""
    await send({"type": _TRAILERS, "headers": list(response.trailers), "more_trailers": False})
