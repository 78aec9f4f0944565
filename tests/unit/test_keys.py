"""What makes several requests one operation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.keys import (
    NotAKeyError,
    Sharing,
    coalescing_key,
    idempotency_key,
    key_of,
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
        (b'"one, two"', "one, two"),
        (rb"a\b", r"a\b"),
        (rb'"a\"b"', r"a\"b"),
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
        (
            "k",
            replace(REQUEST, headers=(*REQUEST.headers, (b"content-encoding", b"gzip"))),
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


def at(host: bytes, *fields: tuple[bytes, bytes]) -> Request:
    return replace(REQUEST, headers=((b"host", host), *fields))


@pytest.mark.parametrize("owner", ["ada", None])
@pytest.mark.parametrize(
    "hosts",
    [(b"a.test:1", b"a.test:2", b"A.Test"), (b"[::1]:80", b"[::1]")],
)
def test_a_key_is_the_same_at_every_port_of_a_host(
    hosts: tuple[bytes, ...], owner: str | None
) -> None:
    keys = {idempotency_key("k", at(host), "/reports", owner, DIGEST) for host in hosts}
    assert len(keys) == 1


FORWARDED = b"x-forwarded-host"


@pytest.mark.parametrize("owner", ["ada", None])
def test_a_key_is_of_one_host_name(owner: str | None) -> None:
    requests = [
        *(at(b"a.test"), at(b"b.test"), at(b"::1"), at(b"::2"), REQUEST),
        *(at(b"a.test", (FORWARDED, b"b.test")), at(b"a.test", (FORWARDED, b"c.test, b.test"))),
    ]
    keys = {idempotency_key("k", it, "/reports", owner, DIGEST).value for it in requests}
    assert len(keys) == len(requests)
    proxied = [at(b"a.test", (FORWARDED, host)) for host in (b"b.test", b"b.test:8443")]
    keys = {idempotency_key("k", it, "/reports", owner, DIGEST).value for it in proxied}
    assert len(keys) == 1


def test_fields_that_say_nothing_of_who_asks_change_nothing() -> None:
    first = replace(REQUEST, headers=((b"x-api-key", b"ours"), (b"x-request-id", b"1")))
    second = replace(REQUEST, headers=((b"x-api-key", b"ours"), (b"user-agent", b"curl")))
    keys = {idempotency_key("k", it, "/reports", None, DIGEST).value for it in (first, second)}
    assert len(keys) == 1


BETWEEN = [
    *(b"b3", b"x-b3-traceid", b"baggage", b"sentry-trace", b"traceparent", b"uber-trace-id"),
    *(b"x-datadog-parent-id", b"x-cloud-trace-context", b"x-client-trace-id", b"newrelic"),
    *(b"elastic-apm-traceparent", b"cf-ray", b"cf-connecting-ip", b"x-amz-cf-id"),
    *(b"x-amzn-requestid", b"x-amzn-trace-id", b"x-envoy-attempt-count", b"X-Request-Start"),
    *(b"x-forwarded-for", b"x-forwarded-server", b"true-client-ip", b"x-ot-span-context"),
]


@pytest.mark.parametrize("field", BETWEEN)
def test_what_traces_and_proxies_add_keeps_nobody_from_his_operation(field: bytes) -> None:
    credentials = (b"authorization", b"ours")
    sent = [replace(REQUEST, headers=(credentials, (field, value))) for value in (b"1", b"2")]
    keys = {idempotency_key("k", it, "/reports", None, DIGEST).value for it in sent}
    assert len(keys) == 1


@pytest.mark.parametrize(
    "field",
    [
        *(b"cookie", b"authorization", b"x-api-key", b"x-own-token", b"x-amzn-oidc-identity"),
        *(b"x-forwarded-user", b"x-forwarded-client-cert", b"cf-access-jwt-assertion"),
    ],
)
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
HOSTS_AND_WAYS = [
    *(b"host", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port"),
    b"x-forwarded-prefix",
]


def with_field(name: bytes) -> Request:
    return replace(GET, headers=(*GET.headers, (name, b"other")))


def test_identical_requests_share_and_let_go_of_their_key() -> None:
    first, second = (coalescing_key(GET, "/reports", "ada", DIGEST) for _ in range(2))
    assert first == second
    assert first.is_shared


@pytest.mark.parametrize(
    ("request_", "owner"),
    [
        (replace(GET, query=b"a=2"), "ada"),
        (replace(GET, headers=((b"accept", b"text/html"),)), "ada"),
        (replace(GET, headers=(*GET.headers, (b"range", b"bytes=0-1"))), "ada"),
        (replace(GET, headers=(*GET.headers, (b"if-unmodified-since", b"x"))), "ada"),
        (with_field(b"content-encoding"), "ada"),
        *((with_field(name), "ada") for name in HOSTS_AND_WAYS),
        (replace(GET, scheme="https"), "ada"),
        (GET, "bob"),
        (GET, None),
    ],
)
def test_requests_that_may_be_answered_otherwise_do_not_share(
    request_: Request, owner: str | None
) -> None:
    known = coalescing_key(GET, "/reports", "ada", DIGEST)
    assert coalescing_key(request_, "/reports", owner, DIGEST).value != known.value


@pytest.mark.parametrize("name", [*HOSTS_AND_WAYS, b"content-encoding"])
def test_nor_do_they_without_an_owner(name: bytes) -> None:
    known = coalescing_key(GET, "/reports", None, DIGEST)
    assert coalescing_key(with_field(name), "/reports", None, DIGEST).value != known.value


@pytest.mark.parametrize("owner", ["ada", None])
def test_requests_with_different_bodies_do_not_share(owner: str | None) -> None:
    bodies = [(), (b"a", b"bc"), (b"abc",), (b"abd",)]
    keys = [key_of(Sharing(None), GET, "/reports", owner, body).value for body in bodies]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("owner", ["ada", None])
def test_many_clients_share_wherever_they_come_from(owner: str | None) -> None:
    there = replace(with_field(b"x-forwarded-for"), client=("10.0.0.1", 5))
    known = coalescing_key(GET, "/reports", owner, DIGEST)
    assert coalescing_key(there, "/reports", owner, DIGEST) == known
