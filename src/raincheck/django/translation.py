"""Between Django's requests and responses and `raincheck.http.messages`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, StreamingHttpResponse

from raincheck.asgi.loops import running_loop
from raincheck.asgi.translation import to_request as from_scope
from raincheck.http.messages import Headers, Request, Response, without
from raincheck.wsgi.translation import header_fields
from raincheck.wsgi.translation import to_request as from_environ

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase


def to_request(request: HttpRequest) -> Request:
    """Describe a request, with scheme and host as Django sees them behind its proxies.

    Raises:
        DisallowedHost: ALLOWED_HOSTS does not allow it, so no URL may be built from it.
    """
    described = to_captured(request)
    host = (b"host", request.get_host().encode("ascii"))
    fields = without(described.headers, frozenset({b"host"}))
    return replace(described, scheme=request.scheme or "http", headers=(host, *fields))


def to_captured(request: HttpRequest) -> Request:
    """Describe a request as it came, so that it can come again."""
    if isinstance(request, ASGIRequest):
        scope = request.scope
        if type(scope["headers"]) not in (list, tuple):  # Django has read what can be read once
            scope = scope | {"headers": list(header_fields(request.META))}
        if isinstance(query := scope.get("query_string"), str):  # Django's test client has it so
            scope = scope | {"query_string": query.encode()}
        return from_scope(scope, request.path, request.META["SCRIPT_NAME"].rstrip("/"))
    # Django has decoded both.
    paths = {key: to_latin(request.META[key]) for key in ("PATH_INFO", "SCRIPT_NAME")}
    return from_environ({**request.META, **paths})


def to_latin(path: str) -> str:
    """Write a path as an environ holds it (PEP 3333)."""
    return path.encode("utf-8", "surrogateescape").decode("latin-1")


def from_response(response: HttpResponseBase) -> tuple[int, Headers]:
    """Return status and header fields, cookies among them, as Django's handlers send them."""
    cookies = [
        ("Set-Cookie", morsel.output(header="").strip()) for morsel in response.cookies.values()
    ]
    fields = [*response.items(), *cookies]
    return response.status_code, tuple(
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in fields
    )


def is_file(response: Any) -> bool:
    """Tell whether a streaming response is no more than an open file."""
    return getattr(response, "file_to_stream", None) is not None


class _WithRepeatedFields:
    """A response with fields that occur more than once, which Django's mapping can't hold."""

    repeated: list[tuple[str, str]]

    def set_fields(self: Any, headers: Headers) -> None:
        self.repeated = []
        del self.headers["Content-Type"]  # Django's default
        for name, value in ((n.decode("latin-1"), v.decode("latin-1")) for n, v in headers):
            if name in self.headers:
                self.repeated.append((name, value))
            else:
                self.headers[name] = value

    def items(self: Any) -> Any:
        return [*self.headers.items(), *self.repeated]


class _Whole(_WithRepeatedFields, HttpResponse):
    pass


class _Streamed(_WithRepeatedFields, StreamingHttpResponse):
    pass


def to_response(
    response: Response, chunks: Iterator[bytes] | AsyncIterator[bytes] | None = None
) -> HttpResponseBase:
    """Make a response of Django's.

    Args:
        chunks: The body, where it is stored.
    """
    made: Any
    if chunks is not None:
        made = _Streamed(chunks, status=response.status)
    else:
        made = _Whole(response.body, status=response.status)
    made.set_fields(response.headers)
    return made


async def in_threads(chunks: Iterator[bytes], length: int) -> AsyncIterator[bytes]:
    """Read stored chunks without keeping the event loop.

    Args:
        length: Of all of them. The client knows it, too, and may send its next request as soon as
            it has them: uvicorn would begin that in the context of this one if it were not over.
    """
    loop = running_loop(None)
    while length > 0:
        chunk = await loop.read(next, chunks, b"")
        length -= len(chunk)
        yield chunk
