"""What a client may write into its request takes time in proportion to its length.

Each field is so long that whoever goes back over it does not end within the life of a test.
"""

from __future__ import annotations

import contextlib

import pytest

from raincheck.engine.idempotency import Sharing, coalescing_key, idempotency_key, parse_key
from raincheck.http.conditions import (
    RangeNotSatisfiable,
    is_not_modified,
    precondition_fails,
    requested_range,
)
from raincheck.http.dates import http_date
from raincheck.http.messages import Request
from raincheck.http.preferences import accepts, asks_for_events, parse_prefer
from raincheck.http.references import base_of, resolve_all
from raincheck.http.urls import request_path
from raincheck.monitor.links import locate, parse_target, signature_of
from raincheck.wsgi.translation import to_length

LONG = 100_000  # bytes
FIELDS = {
    "quotes": b'"' * LONG,
    "an open quote": b'"' + b"a" * LONG,
    "weak": b"W/" * (LONG // 2),
    "escapes": b'"' + b"\\" * LONG,
    "ranges": b"bytes=" + b"\t," * (LONG // 2),
    "parameters": b"a;" * (LONG // 2),
    "nodes": b"for=" + b"a" * LONG + b"!",
    "hosts": b',host="' * (LONG // 7),
    "ports": b"[" + b":" * LONG,
    "digits": b"0" * LONG,
    "percents": b"%" * LONG,
}


@pytest.fixture(params=FIELDS)
def field(request: pytest.FixtureRequest) -> bytes:
    return FIELDS[request.param]


def hostile(field: bytes) -> Request:
    """Return a request that has a field wherever raincheck reads one."""
    names = [b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"]
    names += [b"range", b"if-range", b"host", b"forwarded", b"x-forwarded-host", b"via", b"cookie"]
    return Request(
        method="GET",
        path="/" + field.decode("latin-1"),
        raw_path=b"/" + field,
        query=field,
        headers=tuple((name, field) for name in names),
    )


def test_a_field_is_read_once(field: bytes) -> None:
    assert parse_prefer(field) == parse_prefer(None)
    assert accepts(field, b"text/html")
    assert not asks_for_events(field)
    assert http_date(field) is None
    to_length(field.decode("latin-1"))
    with contextlib.suppress(ValueError):
        parse_key(field)


def test_a_request_is_read_once(field: bytes) -> None:
    request = hostile(field)
    assert not is_not_modified(request, b'"tag"', None)
    precondition_fails(request, b'"tag"', None)
    with contextlib.suppress(RangeNotSatisfiable):
        requested_range(request, 10, b'"tag"', None)
    coalescing_key(request, request.path, None, b"")
    idempotency_key("key", request, request.path, None, b"", Sharing("key").identity)
    signature_of(request)
    assert parse_target(request.path) is None
    request_path(request)
    locate(request, "/operations/1", "relative")
    resolve_all(((b"location", b"../x"), (b"link", b"<../x>")), base_of(request, "path", None, ""))
