"""The status monitor: from an operation and the request that asks to the response. Pure.

Everything on the wire that is the same in all dialects is decided here, once, for every gateway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raincheck.http import conditions, messages
from raincheck.http.dates import timestamp
from raincheck.http.messages import Headers, Request, Response, StoredBody
from raincheck.http.preferences import accepts
from raincheck.http.problems import NO_STORE, problem, to_json
from raincheck.monitor import estimates
from raincheck.monitor.dialects import Dialect
from raincheck.monitor.links import Links, Resource
from raincheck.monitor.representation import (
    at_response_url,
    for_all,
    is_for_front_server,
    replay,
    status_field,
)
from raincheck.operations.durations import Sketch
from raincheck.operations.operation import Operation, Reason, State, is_expired

JSON = b"application/json"
ALLOWED: Mapping[Resource, tuple[str, ...]] = {
    Resource.RESPONSE: ("GET", "HEAD", "DELETE"),
    Resource.STATUS: ("GET", "HEAD"),
    Resource.RESULT: ("GET", "HEAD"),
}

EXPLANATIONS: Mapping[Reason, str] = {
    Reason.EXCEPTION: "The handler ended without a complete response.",
    Reason.INTERRUPTED: "The process that ran the handler is gone.",
    Reason.TIMEOUT: "The handler ran longer than it may.",
    Reason.RESPONSE_TOO_LARGE: "The handler's response is larger than may be kept.",
    Reason.RESPONSE_LOST: "The handler's response could not be stored.",
    Reason.SHUTDOWN: "The server was stopped before the handler ended.",
    Reason.EXPIRED_BEFORE_START: "The operation expired before it was started.",
    Reason.RESPONSE_DISCARDED: "The handler answered all the same; its response was discarded.",
    Reason.OWNER_UNKNOWN: "It could not be found out whose the response is.",
    Reason.TOO_MANY_OPERATIONS: "Its owner had too many operations at once.",
}


@dataclass(frozen=True, slots=True)
class View:
    """One look at one operation: all that decides what the client sees.

    Attributes:
        now: Seconds since the epoch by the store's clock.
        signature: What the client may hand to somebody else, for the response.
        past: What is known of the durations of its route.
    """

    operation: Operation
    links: Links
    dialect: Dialect
    now: float
    signature: str | None = None
    past: Sketch | None = None


def started(view: View, applied: str | None = None) -> Response:
    """Answer the original request with 202 (RFC 9110 §15.3.3), its preference being `applied`."""
    return with_applied(_accepted(view), applied)


def with_applied(response: Response, applied: str | None) -> Response:
    """Say which preference was honoured (RFC 7240 §3)."""
    if applied is None:
        return response
    extra = ((b"preference-applied", applied.encode("ascii")), (b"vary", b"Prefer"))
    return replace(response, headers=response.headers + extra)


def read(view: View, resource: Resource, request: Request) -> Response:
    """Answer a GET or HEAD of one of the operation's resources."""
    if is_expired(view.operation, view.now):
        return gone("The response is no longer kept.")
    if resource is Resource.STATUS:
        return _status(view, request)
    if view.operation.is_terminal:
        return _outcome(view, request)
    if resource is Resource.RESULT or view.dialect.see_other:
        return not_ready(view)
    return _accepted(view)


def deleted(view: View) -> Response:
    """Answer a DELETE of R, after what it asked for was done (RFC 9110 §9.3.5)."""
    if view.operation.forgotten:
        return Response(204, (NO_STORE,))
    return _accepted(view)


def refused_deletion(view: View, request: Request) -> Response | None:
    """Say why a DELETE of R must have no effect; None: it may have it."""
    operation, result = view.operation, view.operation.result
    if operation.coalesced:
        return problem(409, "operation-shared", "Identical requests share it: it is let be.")
    if result is None:
        return None
    return _failed_precondition(at_response_url(operation, result), request)


def repeated(view: View, first: Headers | None = None) -> Response:
    """Answer the original request of a terminal operation with what its handler has answered.

    Unlike at R nobody polls here, so a 202 of the handler's own is one, and there are no ranges.

    Args:
        first: The header fields as the handler gave them, for whoever has had it called.
    """
    operation, result = view.operation, view.operation.result
    if is_expired(operation, view.now):
        return gone("The response to this request is no longer kept.")
    if result is None:
        return _outcome(view, Request("GET", "/"))
    if first is None:
        return replay(operation.id, for_all(operation, result))
    return replay(operation.id, replace(result, headers=first))


def key_reused() -> Response:
    """Say that a key was used for another request before."""
    return problem(422, "idempotency-key-reused", "The key was used with another request.")


def key_in_use(view: View) -> Response:
    """Say that the first request under a key goes on, to a client that can't be sent a 202."""
    wait = _come_again(view)
    return problem(409, "idempotency-key-in-use", "The first request is still handled.", (wait,))


def retry_after(view: View) -> int:
    """Return the seconds until the next poll is worthwhile."""
    return estimates.retry_after(view.operation, view.now, view.past)


def _come_again(view: View) -> tuple[bytes, bytes]:
    return (b"retry-after", b"%d" % retry_after(view))


def status_document(view: View) -> dict[str, Any]:
    """Describe an operation in JSON; it never holds anything of the original request."""
    operation = view.operation
    document: dict[str, Any] = {
        "id": operation.id,
        "status": operation.state.on_the_wire,
        "created": timestamp(operation.created),
        "updated": timestamp(operation.updated),
    }
    if operation.progress is not None:
        known = ("completed", "total", "message")
        values = {name: getattr(operation.progress, name) for name in known}
        document["progress"] = {name: value for name, value in values.items() if value is not None}
    if (expected := estimates.estimate(operation, view.now, view.past)) is not None:
        document["estimate"] = timestamp(expected)
    if operation.is_terminal:
        document |= _terminal_members(view)
    document["links"] = {
        "response": view.links.path(Resource.RESPONSE),
        "status": view.links.path(Resource.STATUS),
        "result": view.links.path(Resource.RESULT),
    }
    if view.signature is not None:
        document["links"]["signed"] = view.links.signed(view.signature).path(Resource.RESPONSE)
    return document


def not_found() -> Response:
    """Answer for an unknown operation, or somebody else's: the same, to the byte."""
    return problem(404, "not-found", "There is no such operation.")


def gone(detail: str) -> Response:
    """Answer for an operation whose response will not come back (RFC 9110 §15.5.11)."""
    return problem(410, "gone", detail)


def see_other(url: str) -> Response:
    """Lead to where the client finds what it wants (RFC 9110 §15.4.4)."""
    location = (b"location", url.encode("ascii"))
    return Response(303, (location, (b"content-length", b"0"), NO_STORE))


def not_ready(view: View) -> Response:
    """Answer for a result that does not exist yet."""
    detail = "The operation is still in flight."
    return problem(404, "result-not-ready", detail, (_come_again(view),))


def allowed(resource: Resource) -> Response:
    """Answer OPTIONS (RFC 9110 §9.3.7): whatever there is, and whoever asks."""
    return Response(200, ((b"allow", ", ".join((*ALLOWED[resource], "OPTIONS")).encode("ascii")),))


def method_not_allowed(resource: Resource) -> Response:
    """Answer for a method that the resource does not have; §15.5.6: with `Allow`."""
    allow = ", ".join(ALLOWED[resource]).encode("ascii")
    return problem(405, "method-not-allowed", "See Allow.", ((b"allow", allow),))


def after_waiting(response: Response, seconds: float) -> Response:
    """Say that a preference to wait was honoured (RFC 7240 §3); caches need not know of it."""
    applied = f"wait={seconds:g}".encode("ascii")
    return replace(response, headers=(*response.headers, (b"preference-applied", applied)))


# --- documents ---------------------------------------------------------------------------------


def _terminal_members(view: View) -> dict[str, Any]:
    operation = view.operation
    members: dict[str, Any] = {}
    if operation.result is not None:
        # Not `result`: azure-core takes a member of that name for the result itself.
        members["response"] = {"status": operation.result.status}
    if operation.state is State.FAILED or operation.reason is not None:
        members["error"] = _error(operation)
    if operation.state is not State.CANCELLED:
        members["resourceLocation"] = view.links.url(Resource.RESPONSE)
    return members


def _error(operation: Operation) -> dict[str, str]:
    if operation.reason is not None:
        return {"code": operation.reason.value, "message": EXPLANATIONS[operation.reason]}
    result = operation.result
    if result is None:
        return {"code": "http_500", "message": "The handler answered 500."}
    return {
        "code": result.error_code or f"http_{result.status}",
        "message": result.error_message or f"The handler answered {result.status}.",
    }


def _accepted(view: View) -> Response:
    """Build the 202: the same at the start, at every poll of R and for a cancellation."""
    body = to_json(status_document(view))
    content = ((b"content-type", JSON), (b"content-length", b"%d" % len(body)))
    return Response(202, (*content, *accepted_fields(view), NO_STORE), body)


def accepted_fields(view: View) -> Headers:
    """Say where to poll, and when next; the body of a 202 may be any."""
    links, status_url = view.links, view.links.url(Resource.STATUS).encode("ascii")
    poll = links.url(view.dialect.poll).encode("ascii")
    return (
        (b"location", poll),
        (b"content-location", poll),
        (b"operation-location", status_url),
        (b"link", b'<%s>; rel="status"' % status_url),
        _come_again(view),
        *_progress(view.operation),
    )


def _progress(operation: Operation) -> Headers:
    """Say how far an operation is, for who does not read documents (draft-wright-http-progress).

    It has whole numbers only, and a message would make it longer than proxies let pass.
    """
    progress = operation.progress
    if progress is None or operation.is_terminal:
        return ()
    numbers = [n for n in (progress.completed, progress.total) if n is not None]
    if numbers != sorted(numbers) or not all(0 <= n < 1e15 and n == int(n) for n in numbers):
        return ()
    return ((b"progress", b"%d/%s" % (numbers[0], b"%d" % numbers[1] if numbers[1:] else b"")),)


def _status(view: View, request: Request) -> Response:
    """Answer M: always 200 with the document, unless the client has it or can't read it."""
    if view.dialect.see_other and view.operation.is_terminal:
        return see_other(view.links.url(Resource.RESPONSE))
    if not accepts(request.header(b"accept"), JSON):
        return problem(406, "not-acceptable", "The status document is application/json.")
    body = to_json(status_document(view))
    etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode("ascii")
    fields: Headers = ((b"etag", etag), NO_STORE)
    if not view.operation.is_terminal:
        fields = (_come_again(view), *fields, *_progress(view.operation))
    content = ((b"content-type", JSON), (b"content-length", b"%d" % len(body)))
    return _conditional(Response(200, content + fields, body), request)


# --- the handler's response --------------------------------------------------------------------


def _outcome(view: View, request: Request) -> Response:
    operation, result = view.operation, view.operation.result
    if operation.state is State.CANCELLED:
        how = f" {EXPLANATIONS[operation.reason]}" if operation.reason else ""
        fields = (status_field(operation),)
        return problem(410, "canceled", f"The operation was canceled.{how}", fields)
    if result is None:
        error = _error(operation)
        return problem(500, error["code"], error["message"], (status_field(operation),))
    response = at_response_url(operation, result)
    if is_for_front_server(response.headers):
        return response
    response = _conditional(response, request)
    return _ranged(response, request) if result.status == 200 else response


_CONTENT_DIGESTS = frozenset({b"content-digest", b"digest", b"content-md5"})
_CONTENT_FIELDS = frozenset({b"content-type", b"content-length", b"content-range"})
_OF_ANOTHER_LENGTH = frozenset({b"content-length", b"content-range"})


def _conditional(response: Response, request: Request) -> Response:
    """Apply RFC 9110 §13.2.2 to what there is to show.

    Whatever its status: unlike in §13.2.1 an error is not why there is nothing to show, but the
    very thing that the client has seen.
    """
    if (failed := _failed_precondition(response, request)) is not None:
        return failed
    etag, modified = response.header(b"etag"), response.header(b"last-modified")
    if conditions.is_not_modified(request, etag, modified):
        dropped = _CONTENT_FIELDS | _CONTENT_DIGESTS
        return Response(304, messages.without(response.headers, dropped))
    return response


def _failed_precondition(response: Response, request: Request) -> Response | None:
    etag, modified = response.header(b"etag"), response.header(b"last-modified")
    if conditions.precondition_fails(request, etag, modified):
        return problem(412, "precondition-failed", "The representation is another one.")
    return None


def _ranged(response: Response, request: Request) -> Response:
    if response.status != 200 or not isinstance(response.body, StoredBody):
        return response
    length = response.body.stop
    etag, modified = response.header(b"etag"), response.header(b"last-modified")
    try:
        wanted = conditions.requested_range(request, length, etag, modified)
    except conditions.RangeNotSatisfiable:
        actual = ((b"content-range", b"bytes */%d" % length),)
        return problem(416, "range-not-satisfiable", f"There are {length} bytes.", actual)
    if wanted is None:
        return response
    start, stop = wanted
    fields = messages.without(response.headers, _OF_ANOTHER_LENGTH | _CONTENT_DIGESTS)
    extra = (
        (b"content-length", b"%d" % (stop - start)),
        (b"content-range", b"bytes %d-%d/%d" % (start, stop - 1, length)),
    )
    return Response(206, fields + extra, replace(response.body, start=start, stop=stop))
