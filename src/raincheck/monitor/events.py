"""Server-sent events of an operation, as the HTML standard has them (§9.2). Pure.

Whoever has heard an event does not hear it again: its id is that of what there was to see.
"""

from __future__ import annotations

from dataclasses import replace

from raincheck.http.messages import Headers, Request, Response, field_value
from raincheck.http.preferences import prefers_events
from raincheck.http.problems import problem, to_json
from raincheck.monitor.links import Resource
from raincheck.monitor.representation import status_field
from raincheck.monitor.views import View, gone, status_document
from raincheck.operations.operation import Operation, is_expired

EVENTS = b"text/event-stream"
# A comment. No line more: some clients take any empty one for the end of an event.
HEARTBEAT = b":\n"
HEARTBEAT_SECONDS = 15.0  # proxies give up after a minute, and some after half of it
FIELDS: Headers = (
    (b"content-type", EVENTS),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx and its kin
)
# Middleware that compresses would keep events back until it has enough of them, but leaves alone
# what is encoded already.
_NOT_ENCODED = (b"content-encoding", b"identity")


def event_id(operation: Operation) -> str:
    """Name what a client can see of an operation: the name is another one when it has changed."""
    state = "unbound" if operation.unbound else operation.state.on_the_wire
    return f"{operation.updated:.6f}-{state}"


def event(view: View) -> bytes:
    """Tell how things are: `status` while the operation goes on, `end` when it has ended.

    Not `error`: a client takes that for an error of its connection.
    """
    name = b"end" if view.operation.is_terminal else b"status"
    identity = event_id(view.operation).encode("ascii")
    data = to_json(status_document(view)).rstrip(b"\n")
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (identity, name, data)


def come_again(seconds: float) -> bytes:
    """Say after how long a client whose connection has ended is to connect again.

    It is a part of the event that follows, and valid without one.
    """
    return b"retry: %d\n" % round(1000 * seconds)


def head(request: Request, extra: Headers = ()) -> Response:
    """Begin a stream."""
    fields = FIELDS if request.header(b"accept-encoding") is None else (*FIELDS, _NOT_ENCODED)
    return Response(200, fields + extra)


def known_by(request: Request) -> str | None:
    """Return the id of the last event that a client has heard."""
    value = request.header(b"last-event-id")
    return None if value is None else value.decode("utf-8", "replace").strip()


def whole(view: View, request: Request, retry: float) -> Response:
    """Answer with what there is to tell now, and no more.

    After the end a client that knows of it is told 204, so that it does not connect again.

    Args:
        retry: Seconds after which it is to come again.
    """
    operation = view.operation
    if is_expired(operation, view.now):
        return gone("The response is no longer kept.")
    is_known = known_by(request) == event_id(operation)
    if operation.is_terminal and is_known:
        return Response(204, FIELDS[1:])
    body = b"" if is_known else event(view)
    body = body if operation.is_terminal else come_again(retry) + body
    extra = (status_field(operation),) if operation.is_terminal else ()
    length = (b"content-length", b"%d" % len(body))
    return replace(head(request, (*extra, length)), body=body)


def are_wanted(request: Request, resource: Resource, operation: Operation) -> bool:
    """Tell whether a client is to be told of an operation by events."""
    is_read = request.method in ("GET", "HEAD") and resource is not Resource.RESULT
    if not is_read or not prefers_events(request.header(b"accept")):
        return False
    # Where the handler's own response is a stream of events, R shows that, and nothing about it.
    is_shown = resource is Resource.RESPONSE and known_by(request) is None
    return not (is_shown and operation.result is not None and _is_stream(operation.result.headers))


def _is_stream(headers: Headers) -> bool:
    value = field_value(headers, b"content-type") or b""
    return value.partition(b";")[0].strip().lower() == EVENTS


def no_thread() -> Response:
    """Answer where nobody can listen: the server's only thread has others to serve."""
    detail = (
        "This server has one thread for all requests, so nobody can listen to events: poll, as "
        "without this Accept."
    )
    return problem(406, "no-events", detail)
