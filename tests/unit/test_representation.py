"""What R shows of a handler's response, and to which caches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.http.messages import Headers, field_value, without
from raincheck.monitor.representation import at_response_url
from raincheck.operations.operation import Operation, Result
from raincheck.testing.material import make_operation

ADDED = frozenset({b"etag", b"accept-ranges", b"content-length", b"operation-status"})


def operation(owner: str | None) -> Operation:
    return make_operation("8f14e45fceea167a5a36dedd4bea2543", owner=owner)


def shown(headers: Headers, owner: str | None = "ada", status: int = 200) -> Headers:
    result = Result(status, headers, length=3, chunk_size=9, fence=1)
    return without(at_response_url(operation(owner), result).headers, ADDED)


def policy(*values: bytes) -> bytes | None:
    headers = shown(tuple((b"Cache-Control", value) for value in values))
    assert sum(name.lower() == b"cache-control" for name, _ in headers) == 1
    return field_value(headers, b"cache-control")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), b"no-store"),
        ((b"no-store",), b"no-store"),
        ((b"public",), b"private"),
        ((b"max-age=60",), b"private, max-age=60"),
        ((b"public, max-age=60",), b"private, max-age=60"),
        ((b"Public, S-MaxAge=600, max-age=60",), b"private, max-age=60"),
        ((b"public", b"max-age=60"), b"private, max-age=60"),
        ((b"private, max-age=60",), b"private, max-age=60"),
        ((b"private, public",), b"private"),
        ((b'private="x-a, public"',), b'private, private="x-a, public"'),
        ((b'no-cache="a, b", s-maxage="5"',), b'private, no-cache="a, b"'),
        ((b"public, no-store",), b"no-store"),
        ((b"must-understand, no-store",), b"private, must-understand, no-store"),
        ((b"",), b"private"),
        ((b',, "',), b'private, "'),
    ],
)
def test_what_an_owner_alone_may_see_is_private(values: Any, expected: bytes) -> None:
    assert policy(*values) == expected


def test_an_expiry_alone_is_no_leave_for_shared_caches() -> None:
    expires = (b"expires", b"Sat, 21 Nov 2026 20:00:00 GMT")
    assert shown((expires,)) == (expires, (b"cache-control", b"private"))


@pytest.mark.parametrize(
    "name",
    [
        *(b"CDN-Cache-Control", b"Cloudflare-CDN-Cache-Control", b"Surrogate-Control"),
        *(b"Edge-Control", b"X-Accel-Expires", b"X-LiteSpeed-Cache-Control"),
    ],
)
def test_no_field_for_certain_caches_outdoes_it(name: bytes) -> None:
    fields = ((b"cache-control", b"private, max-age=1"), (name, b"max-age=600"))
    assert shown(fields) == fields[:1]
    assert shown(fields, owner=None) == fields


@pytest.mark.parametrize("value", [b"public, max-age=60", b"s-maxage=60", b"max-age=60"])
def test_what_everybody_may_see_keeps_its_policy(value: bytes) -> None:
    fields = ((b"a", b"1"), (b"Cache-Control", value), (b"b", b"2"))
    assert shown(fields, owner=None) == fields


def test_other_fields_keep_their_places() -> None:
    fields = ((b"a", b"1"), (b"Cache-Control", b"public"), (b"b", b"2"), (b"a", b"3"))
    private = (b"cache-control", b"private")
    assert shown(fields) == ((b"a", b"1"), private, (b"b", b"2"), (b"a", b"3"))


@given(st.text('pulicsmaxge-=,"\\ no').map(str.encode))
def test_whatever_a_handler_says_no_shared_cache_may_keep_it(value: bytes) -> None:
    found = policy(value) or b""
    assert b"private" in found.split(b", ") or b"no-store" in found
    assert policy(found) == found
