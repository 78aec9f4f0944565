"""What makes several requests one operation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.keys import (
    NotAKeyError,
    coalescing_key,
    idempotency_key,
    may_have_key,
    parse_key,
)
from raincheck.messages import Request

REQUEST = Request(
    "POST",
    "/reports",
    query=b"a=1",
    headers=((b"content-type", b"text/plain"), (b"cookie", b"s=1")),
)
DIGEST = b"digest"


@pytest.mark.parametrize(
    ("field", "key"),
    [
        (b"8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b'"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b' "two words" ', "two words"),
        (b"x" * 255, "x" * 255),
    ],
)
def test_a_key_is_a_string_with_or_without_its_quotes(field: bytes, key: str) -> None:
    assert parse_key(field) == key


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b" ",
        b'""',
        b'"',
        b'"a',
        b"a b",
        b"x" * 256,
        b"\xff",
        b"a\0",
        b'a"b',
        b'"a"b',
        b"a\r\nb",
        b"a, b",
    ],
)
def test_what_is_no_key_is_refused(field: bytes) -> None:
    with pytest.raises(NotAKeyError):
        parse_key(field)


@given(st.binary(max_size=400))
def test_no_field_breaks_the_parser(field: bytes) -> None:
    try:
        key = parse_key(field)
    except NotAKeyError:
        return
    assert 1 <= len(key) <= 255
    assert key.isascii()
    assert key.isprintable()


@pytest.mark.parametrize(
    ("method", "may"), [("POST", True), ("PATCH", True), ("DELETE", True), ("GET", False)]
)
def test_only_requests_that_change_something_have_keys(method: str, may: bool) -> None:
    assert may_have_key(method) is may


def test_the_same_request_under_the_same_key_is_the_same() -> None:
    first, second = (idempotency_key("k", REQUEST, "/reports", "ada", DIGEST) for _ in range(2))
    assert first == second
    assert not first.is_shared


@pytest.mark.parametrize(
    ("name", "request_", "route", "owner", "digest"),
    [
        ("k", replace(REQUEST, query=b"a=2"), "/reports", "ada", DIGEST),
        (
            "k",
            replace(REQUEST, headers=((b"content-type", b"text/html"),)),
            "/reports",
            "ada",
            DIGEST,
        ),
        ("k", REQUEST, "/reports", "ada", b"other"),
    ],
)
def test_another_request_under_the_same_key_is_seen(
    name: str, request_: Request, route: str, owner: str, digest: bytes
) -> None:
    known = idempotency_key("k", REQUEST, "/reports", "ada", DIGEST)
    other = idempotency_key(name, request_, route, owner, digest)
    assert other.value == known.value
    assert other.fingerprint != known.fingerprint


@pytest.mark.parametrize(
    ("name", "request_", "route", "owner"),
    [
        ("j", REQUEST, "/reports", "ada"),
        ("k", replace(REQUEST, method="PUT"), "/reports", "ada"),
        ("k", replace(REQUEST, root_path="/v2"), "/reports", "ada"),
        ("k", REQUEST, "/others", "ada"),
        ("k", REQUEST, "/reports", "bob"),
        ("k", REQUEST, "/reports", None),
    ],
)
def test_a_key_is_its_owners_and_of_one_route(
    name: str, request_: Request, route: str, owner: str | None
) -> None:
    known = idempotency_key("k", REQUEST, "/reports", "ada", DIGEST)
    assert idempotency_key(name, request_, route, owner, DIGEST).value != known.value


def test_an_owner_is_the_same_at_every_host() -> None:
    here, there = (replace(REQUEST, headers=((b"host", name),)) for name in (b"a:1", b"a:2"))
    keys = {idempotency_key("k", it, "/reports", "ada", DIGEST) for it in (here, there)}
    assert len(keys) == 1
    unknown = {idempotency_key("k", it, "/reports", None, DIGEST) for it in (here, there)}
    assert len(unknown) == 2


def test_fields_that_say_nothing_of_who_asks_change_nothing() -> None:
    first = replace(REQUEST, headers=((b"x-api-key", b"ours"), (b"x-request-id", b"1")))
    second = replace(REQUEST, headers=((b"x-api-key", b"ours"), (b"user-agent", b"curl")))
    keys = {idempotency_key("k", it, "/reports", None, DIGEST).value for it in (first, second)}
    assert len(keys) == 1


@pytest.mark.parametrize("field", [b"cookie", b"authorization", b"x-api-key", b"x-own-token"])
def test_without_an_owner_any_other_field_may_tell_who_asks(field: bytes) -> None:
    ours = replace(REQUEST, headers=((field, b"ours"),))
    theirs = replace(REQUEST, headers=((field, b"theirs"),))
    for request in (theirs, replace(REQUEST, headers=())):
        known = idempotency_key("k", ours, "/reports", None, DIGEST)
        assert idempotency_key("k", request, "/reports", None, DIGEST).value != known.value


def test_an_owner_can_not_be_made_up_from_credentials() -> None:
    forged = replace(REQUEST, headers=((b"authorization", b"ada"),))
    known = idempotency_key("k", REQUEST, "/reports", "ada", DIGEST)
    assert idempotency_key("k", forged, "/reports", None, DIGEST).value != known.value


GET = Request("GET", "/reports", query=b"a=1", headers=((b"accept", b"text/csv"),))


def test_identical_requests_share_and_let_go_of_their_key() -> None:
    first, second = (coalescing_key(GET, "/reports", "ada") for _ in range(2))
    assert first == second
    assert first.is_shared


@pytest.mark.parametrize(
    ("request_", "owner"),
    [
        (replace(GET, query=b"a=2"), "ada"),
        (replace(GET, headers=((b"accept", b"text/html"),)), "ada"),
        (replace(GET, headers=(*GET.headers, (b"range", b"bytes=0-1"))), "ada"),
        (replace(GET, headers=(*GET.headers, (b"if-unmodified-since", b"x"))), "ada"),
        (GET, "bob"),
        (GET, None),
    ],
)
def test_requests_that_may_be_answered_otherwise_do_not_share(
    request_: Request, owner: str | None
) -> None:
    known = coalescing_key(GET, "/reports", "ada")
    assert coalescing_key(request_, "/reports", owner).value != known.value
