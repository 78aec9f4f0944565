"""What makes several requests one operation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.config.options import Settings
from raincheck.engine.idempotency import (
    NotAKeyError,
    Sharing,
    SharingPolicy,
    coalescing_key,
    idempotency_key,
    is_anonymous,
    key_of,
    may_have_key,
    parse_key,
)
from raincheck.http.messages import Request

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


@pytest.mark.parametrize("owner", ["ada", None])
def test_forwarded_names_the_host_too_and_nothing_else_of_it_counts(owner: str | None) -> None:
    ways = {
        b"b.test": (b"for=1.2.3.4;host=b.test", b"For=5.6.7.8;Host=B.test:8443;proto=https"),
        b"c.test": (b'host="c.test:80"', b'by=x;host="c.test"'),
    }

    def value(field: bytes) -> str:
        return idempotency_key("k", at(b"a.test", (b"forwarded", field)), "/", owner, DIGEST).value

    keys = [{value(field) for field in fields} for fields in ways.values()]
    assert [len(found) for found in keys] == [1, 1]
    assert len(keys[0] | keys[1] | {value(b"for=1.2.3.4")}) == 3


# What clients, their libraries, proxies and browsers change from one try to the next.
RETRIES = [
    *(b"accept", b"user-agent", b"idempotency-attempt", b"x-retry-count", b"x-api-key"),
    *(b"x-stainless-retry-count", b"x-stainless-read-timeout", b"x-stainless-timeout"),
    *(b"stripe-client-telemetry", b"x-stripe-client-user-agent", b"amz-sdk-invocation-id"),
    *(b"amz-sdk-request", b"x-amz-date", b"x-goog-api-client", b"x-goog-gcs-idempotency-token"),
    *(b"x-ms-client-request-id", b"x-ms-date", b"x-client-request-id", b"x-github-delivery"),
    *(b"x-b3-traceid", b"baggage", b"sentry-trace", b"traceparent", b"uber-trace-id"),
    *(b"x-datadog-parent-id", b"x-cloud-trace-context", b"newrelic", b"cf-ray", b"cf-ew-via"),
    *(b"cf-connecting-ip", b"x-amz-cf-id", b"x-amzn-trace-id", b"X-Envoy-Attempt-Count"),
    *(b"X-Request-Start", b"x-forwarded-for", b"x-forwarded-port", b"x-original-forwarded-for"),
    *(b"sec-ch-ua", b"sec-ch-ua-mobile", b"sec-ch-viewport-width", b"sec-fetch-user"),
    *(b"downlink", b"rtt", b"ect", b"save-data", b"device-memory", b"dpr", b"referer", b"origin"),
    *(b"priority", b"if-none-match", b"expect", b"upgrade-insecure-requests", b"x-own-anything"),
]


@pytest.mark.parametrize("field", RETRIES)
def test_who_shows_the_same_credentials_repeats_his_key_whatever_else_he_sends(
    field: bytes,
) -> None:
    credentials = (b"authorization", b"ours")
    sent = [
        replace(REQUEST, headers=(credentials, *more))
        for more in ((), ((field, b"1"),), ((field, b"2"),))
    ]
    keys = {idempotency_key("k", it, "/reports", None, DIGEST).value for it in sent}
    assert len(keys) == 1


X_API_KEY = frozenset({b"x-api-key"})


@pytest.mark.parametrize(
    ("field", "identity"),
    [
        *((b"Authorization", frozenset()), (b"proxy-authorization", frozenset())),
        *((b"Cookie", frozenset()), (b"X-API-Key", X_API_KEY), (b"x_api_key", X_API_KEY)),
    ],
)
def test_without_an_owner_other_credentials_are_another_client_s(
    field: bytes, identity: frozenset[bytes]
) -> None:
    ours = replace(REQUEST, headers=((field, b"ours"),))
    theirs = replace(REQUEST, headers=((field, b"theirs"),))
    sent = (ours, theirs, replace(REQUEST, headers=()))
    keys = {idempotency_key("k", it, "/reports", None, DIGEST, identity).value for it in sent}
    assert len(keys) == 3
    assert not is_anonymous(ours, identity)
    assert is_anonymous(sent[-1], identity)


def test_credentials_are_not_taken_for_each_other() -> None:
    fields = (b"authorization", b"proxy-authorization", b"cookie")
    sent = [replace(REQUEST, headers=((field, b"ours"),)) for field in fields]
    keys = {idempotency_key("k", it, "/reports", None, DIGEST).value for it in sent}
    assert len(keys) == 3


def test_cookies_are_the_same_in_one_field_or_in_several_and_in_any_order() -> None:
    ways = [
        *(((b"cookie", b"a=1; b=2"),), ((b"cookie", b"b=2;a=1"),)),
        ((b"cookie", b"a=1"), (b"cookie", b"b=2")),
    ]
    sent = [replace(REQUEST, headers=fields) for fields in ways]
    keys = {idempotency_key("k", it, "/reports", None, DIGEST).value for it in sent}
    assert len(keys) == 1


def test_the_names_in_identity_headers_are_of_any_case() -> None:
    settings = Settings(identity_headers=["X-API-Key", "x_other"])
    sharing = SharingPolicy(settings, settings.policy()).sharing("POST", "/", b"k")
    assert sharing == Sharing("k", frozenset({b"x-api-key", b"x-other"}))
    sent = [replace(REQUEST, headers=((b"x-api-key", it),)) for it in (b"ours", b"theirs")]
    assert len({key_of(sharing, it, "/reports", None, ()).value for it in sent}) == 2


def test_an_owner_can_not_be_made_up_from_credentials() -> None:
    forged = replace(REQUEST, headers=((b"authorization", b"ada"),))
    known = idempotency_key("k", REQUEST, "/reports", "ada", DIGEST)
    assert idempotency_key("k", forged, "/reports", None, DIGEST).value != known.value


GET = Request("GET", "/reports", query=b"a=1", headers=((b"accept", b"text/csv"),))
# Whatever may decide about a response, and whatever nobody here knows.
DECISIVE = [
    *(b"host", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port", b"forwarded"),
    *(b"x-forwarded-prefix", b"x-original-url", b"x-rewrite-url", b"x-http-method-override"),
    *(b"content-encoding", b"range", b"if-unmodified-since", b"cookie", b"authorization"),
    *(b"baggage", b"cf-ipcountry", b"cf-visitor", b"sec-fetch-site", b"accept-language", b"x-own"),
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
        *((with_field(name), "ada") for name in DECISIVE),
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


@pytest.mark.parametrize("name", DECISIVE)
def test_nor_do_they_without_an_owner(name: bytes) -> None:
    known = coalescing_key(GET, "/reports", None, DIGEST)
    assert coalescing_key(with_field(name), "/reports", None, DIGEST).value != known.value


HARMLESS = [
    *((b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),),
    *((b"X-Request-ID", b"8e03978e-40d5"), (b"x-b3-traceid", b"463ac35c9f6413ad")),
    *((b"x-amzn-trace-id", b"Root=1-67891233-abcdef012345678912345678"), (b"via", b"1.1 vegur")),
    *((b"x-forwarded-for", b"10.0.0.1, [2001:db8::1]:4711"), (b"x-real-ip", b"10.0.0.1")),
    *((b"forwarded", b"for=10.0.0.1"), (b"Forwarded", b'by=_edge;for="[2001:db8::1]:4711"')),
    *((b"connection", b"keep-alive"), (b"priority", b"u=0, i")),
]


@pytest.mark.parametrize(("name", "value"), HARMLESS)
def test_traces_and_addresses_keep_nobody_from_sharing(name: bytes, value: bytes) -> None:
    keys = {
        coalescing_key(it, "/reports", None, DIGEST).value
        for it in (
            replace(GET, headers=(*GET.headers, (name, value))),
            replace(GET, headers=(*GET.headers, (name, value.replace(b"1", b"2")))),
        )
    }
    assert len(keys) == 1


@pytest.mark.parametrize("name", [name for name, _ in HARMLESS])
def test_nor_is_what_does_no_harm_a_way_into_another_s_page(name: bytes) -> None:
    known = coalescing_key(GET, "/reports", None, DIGEST)
    for value in (b"<script>", b'"onload="'):
        forged = replace(GET, headers=(*GET.headers, (name, value)))
        assert coalescing_key(forged, "/reports", None, DIGEST).value != known.value


@pytest.mark.parametrize(
    "forged",
    [
        *(b"for=1.2.3.4;host=evil", b'for="1.2.3.4;host=evil"', b"for=x,host=evil", b"host=evil"),
        *(b"for=1.2.3.4;proto=http", b'for="a\\";host=evil"', b"xfor=evil", b"for=evil<"),
    ],
)
def test_whatever_forwarded_says_beside_an_address_is_compared(forged: bytes) -> None:
    fields = [b"for=5.6.7.8", forged]
    sent = [replace(GET, headers=(*GET.headers, (b"forwarded", it))) for it in fields]
    keys = {coalescing_key(it, "/reports", None, DIGEST).value for it in sent}
    assert len(keys) == 2


def test_the_first_of_two_fields_may_be_the_one_that_counts() -> None:
    pairs = [(b"x-forwarded-host", b"a.test"), (b"x-forwarded-host", b"b.test")]
    sent = [replace(GET, headers=tuple(order)) for order in (pairs, pairs[::-1])]
    keys = {coalescing_key(it, "/reports", "ada", DIGEST).value for it in sent}
    assert len(keys) == 2


@pytest.mark.parametrize("owner", ["ada", None])
def test_requests_with_different_bodies_do_not_share(owner: str | None) -> None:
    bodies = [(), (b"a", b"bc"), (b"abc",), (b"abd",)]
    keys = [key_of(Sharing(None), GET, "/reports", owner, body).value for body in bodies]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("owner", ["ada", None])
def test_many_clients_share_wherever_they_come_from(owner: str | None) -> None:
    here = with_field(b"x-forwarded-for")
    there = replace(
        here, headers=(*GET.headers, (b"x-forwarded-for", b"10.1.1.1")), client=("10.0.0.1", 5)
    )
    known = coalescing_key(here, "/reports", owner, DIGEST)
    assert coalescing_key(there, "/reports", owner, DIGEST) == known
