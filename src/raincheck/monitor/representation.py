"""A handler's response as it is sent again, on another connection and another day. Pure.

At the response URL it meets those who have not sent the original request: pollers, ranges and
conditions of their own, and caches that others share.
"""

from __future__ import annotations

import re
from dataclasses import replace

from raincheck.http import messages
from raincheck.http.messages import Headers, Response, StoredBody
from raincheck.http.problems import NO_STORE
from raincheck.operations.operation import Operation, Result

_PERSONAL = frozenset({b"set-cookie"})
# A poller takes 202 for "still running", and the others for answers to its own conditions and
# ranges; the handler has made them for those of the original request.
_NOT_FOR_POLLERS = frozenset({202, 206, 304, 416})
# RFC 9530 §3, RFC 3230: a part, or nothing at all, is not what these are the digests of.
_OF_THE_WHOLE = frozenset({b"repr-digest", b"digest"})
_OF_OTHER_CONTENT = {
    206: _OF_THE_WHOLE,
    304: _OF_THE_WHOLE | {b"content-digest", b"content-md5", b"content-encoding"},
}


def replay(operation_id: str, result: Result) -> Response:
    """Rebuild a response for who has sent the original request."""
    dropped = messages.HOP_BY_HOP | messages.connection_options(result.headers) | {b"date"}
    if result.status in messages.WITHOUT_CONTENT:
        dropped |= {b"content-length"}
    headers = messages.without(result.headers, dropped)
    if result.status not in messages.WITHOUT_CONTENT:
        headers = _with_length(headers, result)
    if not any(name.lower() in (b"cache-control", b"expires") for name, _ in headers):
        headers += (NO_STORE,)
    body = StoredBody(operation_id, result.fence, result.chunk_size, 0, result.length)
    return Response(result.status, headers, body, result.trailers)


def for_all(operation: Operation, result: Result) -> Result:
    """Leave out what was for the one client who had the handler called, if others have it, too."""
    if not operation.coalesced:
        return result
    return replace(result, headers=messages.without(result.headers, _PERSONAL))


def at_response_url(operation: Operation, result: Result) -> Response:
    """Rebuild a response as R shows it, with what conditions on it are compared with."""
    response = replay(operation.id, for_all(operation, result))
    if result.status in _NOT_FOR_POLLERS:
        response = _as_200(response, result)
    headers = response.headers
    if operation.owner is not None:
        headers = _for_no_shared_cache(headers)
    headers = (*headers, status_field(operation))
    return _with_validator(replace(response, headers=headers), result)


def status_field(operation: Operation) -> tuple[bytes, bytes]:
    """Return the header field that says how an operation has ended."""
    return (b"operation-status", operation.state.on_the_wire.encode("ascii"))


def _with_length(headers: Headers, result: Result) -> Headers:
    if messages.field_value(headers, b"content-length") is not None:
        return headers
    return (*headers, (b"content-length", b"%d" % result.length))


def _as_200(response: Response, result: Result) -> Response:
    dropped = _OF_OTHER_CONTENT.get(result.status, frozenset())
    headers = _with_length(messages.without(response.headers, dropped), result)
    status = (b"operation-result-status", b"%d" % result.status)
    return replace(response, status=200, headers=(*headers, status))


def _with_validator(response: Response, result: Result) -> Response:
    """Let a client ask for the rest of a body, or whether it has it; the handler's own tag wins."""
    if result.status != 200 or is_for_front_server(response.headers):
        return response
    extra: Headers = ()
    if response.header(b"etag") is None:
        extra = ((b"etag", b'"%d-%d"' % (result.fence, result.length)),)
    if response.header(b"accept-ranges") is None:
        extra = (*extra, (b"accept-ranges", b"bytes"))
    return replace(response, headers=response.headers + extra)


# --- front servers and caches ------------------------------------------------------------------


_INSTRUCTION = re.compile(rb"x-accel-redirect|x-reproxy-.*|x-.*send-?file.*", re.IGNORECASE)


def is_for_front_server(headers: Headers) -> bool:
    """Tell whether a front server sends something else instead, of which nothing is known here."""
    return any(_INSTRUCTION.fullmatch(name) for name, _ in headers)


# RFC 9213 and what was there before it: with these, a shared cache heeds no `Cache-Control`.
_TARGETED = re.compile(
    rb".+-cache-control|surrogate-control|edge-control|x-accel-expires", re.IGNORECASE
)
_DIRECTIVE = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.)*+"?)++')
_FOR_SHARED_CACHES = (b"public", b"s-maxage")


def _for_no_shared_cache(headers: Headers) -> Headers:
    """Keep what one owner alone may see from shared caches: with a lifetime, they'd show it all."""
    kept = tuple(field for field in headers if not _TARGETED.fullmatch(field[0]))
    value = messages.field_value(kept, b"cache-control") or b""
    directives = [found.strip() for found in _DIRECTIVE.findall(value)]
    names = [found.partition(b"=")[0].strip().lower() for found in directives]
    pairs = zip(names, directives, strict=True)
    others = [each for name, each in pairs if each and name not in _FOR_SHARED_CACHES]
    # RFC 9111 §5.2.2.3: `must-understand` has caches that know the status ignore `no-store`.
    if b"private" in directives or (b"no-store" in names and b"must-understand" not in names):
        private = others
    else:
        private = [b"private", *others]
    if private == directives:
        return kept
    return _with_cache_control(kept, b", ".join(private))


def _with_cache_control(headers: Headers, value: bytes) -> Headers:
    """Put all of it where the first of it was, or at the end."""
    names = [name.lower() for name, _ in headers]
    place = names.index(b"cache-control") if b"cache-control" in names else len(headers)
    rest = messages.without(headers, frozenset({b"cache-control"}))
    return (*rest[:place], (b"cache-control", value), *rest[place:])
