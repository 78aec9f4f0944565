"""Where R is, as seen through mounts, proxies and hostile Host fields."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raincheck.http.messages import Request
from raincheck.http.urls import origin
from raincheck.monitor.links import (
    PLACEHOLDER,
    Mount,
    Resource,
    is_id,
    local_path,
    locate,
    looking_at,
    parse_target,
)

ID = "0" * 32


def request(
    path: str = "/reports", root_path: str = "", host: bytes = b"api.test", **more: Any
) -> Request:
    return Request(
        "GET", path, raw_path=path.encode(), root_path=root_path, headers=((b"host", host),), **more
    )


def url(asked: Request, location: Any = "absolute", public_url: str | None = None) -> str:
    return locate(asked, local_path(asked, "/operations", ID), location, public_url).url(
        Resource.RESPONSE
    )


def test_absolute_has_the_requests_own_origin() -> None:
    assert url(request()) == f"http://api.test/operations/{ID}"
    assert url(request(scheme="https")) == f"https://api.test/operations/{ID}"


def test_the_mount_point_is_in_front() -> None:
    asked = request("/v1/reports", "/v1")
    assert url(asked) == f"http://api.test/v1/operations/{ID}"
    assert url(asked, "path") == f"/v1/operations/{ID}"


def test_public_url_replaces_origin_and_mount_point() -> None:
    asked = request("/internal/reports", "/internal")
    found = url(asked, "absolute", "https://example.org/api/")
    assert found == f"https://example.org/api/operations/{ID}"


@pytest.mark.parametrize(
    "path", ["/", "/a", "/a/", "/a/b", "/a/b/c/", "/a%2Fb/c", "/v1", "/v1/a/b"]
)
@pytest.mark.parametrize("outside", ["", "/stripped", "/deeply/stripped"])
def test_a_relative_reference_survives_a_proxy_that_strips_a_prefix(
    path: str, outside: str
) -> None:
    asked = request(path)
    resolved = urljoin(f"http://out.side{outside}{path}", url(asked, "relative"))
    assert resolved == f"http://out.side{outside}/operations/{ID}"


def by_the_letter(base: str, reference: str) -> str:
    """Resolve a path by RFC 3986 §5.2.4; `urljoin` takes several slashes for one."""
    segments = base.split("/")[1:-1]
    for segment in reference.split("/"):
        if segment == "..":
            segments = segments[:-1]
        elif segment != ".":
            segments.append(segment)
    return "/" + "/".join(segments)


@pytest.mark.parametrize("path", ["//", "//evil.test", "//evil.test/a", "///a//b/", "/a", "/"])
def test_a_relative_reference_climbs_over_each_slash_of_a_path(path: str) -> None:
    reference = url(request(path), "relative")
    assert by_the_letter(path, reference) == f"/operations/{ID}"
    resolved = urlsplit(urljoin(f"http://api.test{path}", reference))
    assert (resolved.netloc, resolved.path) == ("api.test", f"/operations/{ID}")
    assert not reference.startswith("/")


def test_a_relative_reference_is_not_taken_for_a_scheme() -> None:
    asked = request("/report")
    reference = locate(asked, local_path(asked, "/a:b", ID), "relative").url(Resource.RESPONSE)
    assert urljoin("http://h/report", reference) == f"http://h/a:b/{ID}"


def test_a_relative_reference_stays_below_the_mount_point() -> None:
    asked = request("/v1/a/b", "/v1")
    assert urljoin("http://h/v1/a/b", url(asked, "relative")) == f"http://h/v1/operations/{ID}"


@pytest.mark.parametrize(
    "host",
    [b"evil.test/path", b"a b", b"a\r\nx: y", b"user@host", b"", b"h:port", b"h:123456", b"\xff"],
)
def test_a_hostile_host_gets_into_no_url(host: bytes) -> None:
    assert origin(request(host=host)) is None
    assert url(request(host=host)) == f"/operations/{ID}"


@pytest.mark.parametrize("host", [b"localhost:8000", b"[::1]:80", b"[fe80::1]", b"10.0.0.1"])
def test_ordinary_hosts_are_kept(host: bytes) -> None:
    assert origin(request(host=host)) == f"http://{host.decode()}"


def test_without_a_host_the_servers_address_serves() -> None:
    assert origin(Request("GET", "/", server=("::1", 81))) == "http://[::1]:81"
    assert origin(Request("GET", "/", server=("/run/app.sock", None))) is None
    assert origin(Request("GET", "/")) is None


def test_a_root_path_is_quoted() -> None:
    assert url(request("/ä b/x", "/ä b"), "path") == f"/%C3%A4%20b/operations/{ID}"


@pytest.mark.parametrize("location", ["absolute", "path", "relative"])
def test_no_root_path_leads_to_another_host(location: Any) -> None:
    asked = request("//evil.test/reports", "//evil.test")
    assert not local_path(asked, "/operations", ID).startswith("//")
    resolved = urljoin("http://api.test//evil.test/reports", url(asked, location))
    assert urlsplit(resolved).netloc == "api.test"
    public = url(asked, "absolute", "https://example.org/api")
    assert public == f"https://example.org/api/operations/{ID}"


@pytest.mark.parametrize(
    ("root_path", "written"),
    [
        ("/caf\xe9", "/caf%C3%A9"),
        ("/a\r\nset-cookie: pwned=1", "/a%0D%0Aset-cookie:%20pwned=1"),
        ("/a;b=(1)!", "/a;b=(1)!"),
        ("//evil.test", "/evil.test"),
        ("/\udcff", "/%3F"),
    ],
)
def test_a_mounted_path_can_be_written_into_a_header_field(root_path: str, written: str) -> None:
    mount = Mount(lambda source, operation_id: f"{root_path}/pending/{operation_id}")
    place = mount.place(None, root_path)
    assert place.template == f"{written}/pending/{PLACEHOLDER}"
    assert place.covers(f"/pending/{ID}")
    assert not place.covers(f"/other/{ID}")


def test_a_mounted_path_that_is_encoded_stays_as_it_is() -> None:
    mount = Mount(lambda source, operation_id: f"/caf%C3%A9/p%20q/{operation_id}")
    place = mount.place(None, "/caf\xe9")
    assert place.template == f"/caf%C3%A9/p%20q/{PLACEHOLDER}"
    assert place.covers(f"/p q/{ID}")


def tenant_url(source: dict[str, str], operation_id: str) -> str:
    source["asked"] = "yes"
    return f"/{source['tenant']}/pending/{operation_id}"


def test_what_status_url_answers_is_not_remembered_for_another_request() -> None:
    mount = Mount(tenant_url)
    for tenant in ("acme", "globex"):
        place = mount.place({"tenant": tenant}, "")
        assert place.template == f"/{tenant}/pending/{PLACEHOLDER}"
        assert place.covers(f"/{tenant}/pending/{ID}")
        assert not place.covers(f"/other/pending/{ID}")


def test_a_status_url_that_says_what_it_looks_at_is_asked_for_each_of_that_only() -> None:
    say = looking_at(lambda source: source["tenant"])
    mount = Mount(say(lambda source, operation_id: tenant_url(source, operation_id)))
    requests = [{"tenant": tenant} for tenant in ("acme", "globex", "acme")]
    found = [mount.place(request, "").template.split("/")[1] for request in requests]
    assert found == ["acme", "globex", "acme"]
    assert ["asked" in request for request in requests] == [True, True, False]
    again = {"tenant": "acme"}
    mount.place(again, "/v1")
    assert "asked" in again


@given(st.text())
def test_every_mounted_path_can_be_written(root_path: str) -> None:
    mount = Mount(lambda source, operation_id: f"/{root_path}/{operation_id}")
    found = mount.place(None, f"/{root_path}").template
    assert found.isascii()
    assert found.isprintable()
    assert " " not in found
    assert not found.startswith("//")


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (ID, (ID, Resource.RESPONSE)),
        (f"{ID}/", (ID, Resource.RESPONSE)),
        (f"{ID}/status", (ID, Resource.STATUS)),
        (f"{ID}/result/", (ID, Resource.RESULT)),
        (f"{ID}/other", None),
        (f"{ID}//status", None),
        (f"{ID}/status/x", None),
        (f"{ID}/status/", (ID, Resource.STATUS)),
        ("a-Z_09", ("a-Z_09", Resource.RESPONSE)),
        ("x" * 64, ("x" * 64, Resource.RESPONSE)),
        ("", None),
        ("/", None),
        ("/status", None),
        (f"/{ID}", None),
        (f"{ID}//", None),
        (f"{ID}/status//", None),
    ],
)
def test_targets(tail: str, expected: Any) -> None:
    assert parse_target(tail) == expected


HOSTILE_IDS = [
    "x" * 65,
    "x" * 1_000_000,
    "..",
    ".",
    "%2e%2e",
    f"{ID};status",
    f"{ID}?a",
    f"{ID}#a",
    f"{ID}.json",
    f"{ID} ",
    f"{ID}\n",
    f"{ID}\x00",
    f"\x00{ID}",
    f"{ID}\\status",
    f"{ID[:-1]}\uff10",  # a digit zero of full width
    f"{ID[:-1]}\u0660",  # an Arabic one
    f"{ID}\u200b",
    f"{ID}\ud800",
    "<script>",
]


@pytest.mark.parametrize("operation_id", HOSTILE_IDS, ids=range(len(HOSTILE_IDS)))
@pytest.mark.parametrize("tail", ["", "/", "/status", "/../status"])
def test_what_is_no_id_is_no_target(operation_id: str, tail: str) -> None:
    assert not is_id(operation_id)
    assert parse_target(operation_id + tail) is None


@given(st.text() | st.text(alphabet="aZ09_-/.%;\x00\n") | st.just(f"{ID}/status"), st.text())
@example(f"{ID}/status", "\n")
def test_whatever_the_path_it_is_a_target_that_can_be_written_again_or_none(
    tail: str, more: str
) -> None:
    for text in (tail, tail + more, f"{ID}/{more}"):
        target = parse_target(text)
        if target is not None:
            operation_id, resource = target
            assert is_id(operation_id)
            assert operation_id.isascii()
            assert text.removesuffix("/") == operation_id + resource.value


@given(st.binary(max_size=300), st.sampled_from(["http", "https", "ws", "javascript", "HTTP"]))
@example(b"api.test@evil.test", "http")
@example(b"api.test:80:80", "http")
@example(b"api.test\n", "http")
@example(b"http://evil.test", "http")
@example("bücher.test".encode(), "https")
@example(b"api.test, evil.test", "http")
def test_an_origin_is_a_plain_authority_or_none(host: bytes, scheme: str) -> None:
    asked = Request("GET", "/", scheme=scheme, headers=((b"host", host),))
    found = origin(asked)
    if found is not None:
        parts = urlsplit(found)
        assert found == f"{scheme}://{host.decode()}"
        assert (parts.scheme, parts.netloc, parts.path) == (scheme, host.decode(), "")
        assert parts.username is None
        assert scheme in ("http", "https")


def test_of_two_hosts_none_is_believed() -> None:
    fields = ((b"host", b"api.test"), (b"Host", b"evil.test"))
    assert origin(Request("GET", "/", headers=fields)) is None


def test_what_a_client_says_a_proxy_said_is_not_listened_to() -> None:
    fields = (
        (b"host", b"api.test"),
        (b"x-forwarded-host", b"evil.test"),
        (b"x-forwarded-proto", b"https"),
        (b"forwarded", b"host=evil.test;proto=https"),
    )
    assert origin(Request("GET", "/", headers=fields)) == "http://api.test"
