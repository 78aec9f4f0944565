"""An operation as programs and people are told of it: no credential, and none of its request."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from raincheck.cli.plain import duration, plain, size
from raincheck.http.dates import timestamp
from raincheck.http.messages import field_value
from raincheck.operations.operation import CLAIMED, Operation, Progress, Result

SHOWN_OF_AN_ID = 8  # characters, in tables
LEGEND = (
    f"Ids are cut to {SHOWN_OF_AN_ID} characters; --json and `show` have them whole. A whole id "
    "opens the response to those whom `owner` lets in, and to anybody where there is no `owner`."
)


def line(document: dict[str, Any]) -> str:
    """Write a document on one line of ASCII."""
    return json.dumps(document, separators=(",", ":")) + "\n"


def document(operation: Operation) -> dict[str, Any]:
    """Return what programs are told; the names stay."""
    return {
        "id": operation.id,
        "state": str(operation.state),
        "method": operation.method,
        "route": operation.route,
        "application": operation.application_name,
        "root_path": root_path(operation),
        "owner": operation.owner,
        "queue": operation.queue,
        "created": moment(operation.created),
        "updated": moment(operation.updated),
        "not_before": moment(operation.not_before),
        "started": moment(operation.started),
        "expires": moment(operation.expires),
        "forgotten": operation.forgotten,
        "worker": operation.worker,
        "lease": moment(_lease(operation)),
        "attempts": operation.attempts,
        "repeatable": operation.repeatable,
        "captured": _is_captured(operation),
        "progress": _progress(operation.progress),
        "reason": None if operation.reason is None else str(operation.reason),
        "result": _result(operation.result),
        "webhook": webhook(operation),
        "deliveries": operation.deliveries,
    }


def root_path(operation: Operation) -> str | None:
    """Return where its application is mounted; None: that is not known."""
    name = operation.application
    return name.rpartition("\n")[2] if name is not None and "\n" in name else None


def webhook(operation: Operation) -> str | None:
    """Return the origin of the URL that is still to be told: the rest may let somebody in."""
    if operation.webhook is None:
        return None
    try:
        parts = urlsplit(operation.webhook)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}"
    except ValueError:
        return "one that is no URL"


def _lease(operation: Operation) -> float | None:
    return operation.lease if operation.state in CLAIMED else None  # else it is no runner's


def _is_captured(operation: Operation) -> bool:
    """Tell whether the store has the request: at the end it is dropped."""
    return operation.captured and not operation.is_terminal


def moment(seconds: float | None) -> str | None:
    """Write a time; None: there is none, or no calendar has it."""
    try:
        return None if seconds is None else timestamp(seconds)
    except (ValueError, OverflowError, OSError):
        return None


def _progress(progress: Progress | None) -> dict[str, Any] | None:
    if progress is None:
        return None
    shown = {"completed": progress.completed, "total": progress.total}
    return {**shown, "message": progress.message}


def _result(result: Result | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "status": result.status,
        "length": result.length,
        "media_type": media_type(result),
        "error_code": result.error_code,
        "error_message": result.error_message,
    }


def media_type(result: Result) -> str | None:
    """Return what a response says that it is."""
    value = field_value(result.headers, b"content-type")
    return None if value is None else value.decode("latin-1")


# --- for people ----------------------------------------------------------------------------------


def described_progress(progress: Progress | None) -> str:
    """Write how far it is: 3/10 rendering."""
    if progress is None:
        return ""
    total = f"/{progress.total:g}" if progress.total else ""
    return f"{progress.completed:g}{total} {progress.message or ''}".strip()


def described_end(operation: Operation) -> str:
    """Write how it ended: 200, 11 bytes, or why there is no response."""
    if operation.forgotten:
        return "forgotten"
    if operation.reason is not None:
        return str(operation.reason)
    if operation.result is None:
        return ""
    return f"{operation.result.status}, {size(operation.result.length)}"


def details(operation: Operation, now: float) -> list[tuple[str, str]]:
    """Return all that an operator is told of one, by name."""
    result = operation.result
    may_run_again = operation.repeatable and _is_captured(operation)
    attempts = f"{operation.attempts}{', may be run again' if may_run_again else ''}"
    rows = [
        ("id", operation.id),
        ("state", str(operation.state)),
        ("request", f"{operation.method} {plain(operation.route, 1000)}"),
        ("application", _application(operation)),
        ("owner", "not known yet" if operation.unbound else operation.owner),
        ("queue", operation.queue),
        ("created", _ago(operation.created, now)),
        ("updated", _ago(operation.updated, now)),
        ("not before", _ago(operation.not_before, now)),
        ("started", _ago(operation.started, now)),
        ("progress", described_progress(operation.progress)),
        ("worker", operation.worker),
        ("lease", _ago(_lease(operation), now)),
        ("attempts", attempts),
        ("reason", None if operation.reason is None else str(operation.reason)),
        ("response", None if result is None else _response(result)),
        ("error", None if result is None else _error(result)),
        ("webhook", _webhook(operation)),
        ("forgotten", "the response was given up" if operation.forgotten else None),
        ("expires", _ago(operation.expires, now)),
    ]
    return [(name, text) for name, text in rows if text]


def _application(operation: Operation) -> str:
    mounted = root_path(operation)
    return f"{operation.application_name or ''}{f' at {mounted}' if mounted else ''}"


def _ago(seconds: float | None, now: float) -> str | None:
    if seconds is None:
        return None
    if (written := moment(seconds)) is None:
        return "never" if seconds > now else "unknown"
    distance = duration(abs(now - seconds))
    return f"{written} ({f'{distance} ago' if seconds <= now else f'in {distance}'})"


def _response(result: Result) -> str:
    media = media_type(result)
    return f"{result.status}, {size(result.length)}{f', {media}' if media else ''}"


def _error(result: Result) -> str:
    return ": ".join(filter(None, (result.error_code, result.error_message)))


def _webhook(operation: Operation) -> str | None:
    origin = webhook(operation)
    if origin is None:
        return None
    return f"{origin} is still to be told; tries: {operation.deliveries}"
