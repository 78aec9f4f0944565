"""What is wrong, as RFC 9457 has it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from raincheck.http.messages import Headers, Response

NO_STORE = (b"cache-control", b"no-store")
PROBLEM = b"application/problem+json"


def problem(status: int, code: str, detail: str, headers: Headers = ()) -> Response:
    """Say what is wrong as RFC 9457 has it; `code` is the member to program against."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    body = to_json(document)
    fields = ((b"content-type", PROBLEM), (b"content-length", b"%d" % len(body)), NO_STORE)
    return Response(status, fields + headers, body)


def unavailable(detail: str, seconds: int) -> Response:
    """Answer that nothing is wrong with the request and it may be repeated in `seconds`."""
    return problem(503, "unavailable", detail, ((b"retry-after", b"%d" % seconds),))


def is_problem(response: Response) -> bool:
    """Tell whether a response is a problem of raincheck's own; a handler's is in the store."""
    if response.status < 400 or not isinstance(response.body, bytes):
        return False
    return response.header(b"content-type") == PROBLEM


def read_problem(response: Response) -> tuple[str, str]:
    """Return the code and the detail of a problem."""
    assert isinstance(response.body, bytes)  # noqa: S101 - `is_problem`
    document = json.loads(response.body)
    return document["code"], document["detail"]


_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_json(document: Mapping[str, Any]) -> bytes:
    # The newline is for people with a shell.
    return _ENCODE(document).encode("utf-8") + b"\n"
