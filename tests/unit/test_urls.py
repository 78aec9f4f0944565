"""URLs as they are written into header fields, whatever a request holds."""

from __future__ import annotations

from typing import Any

import pytest

from raincheck.http.messages import Request
from raincheck.http.urls import (
    below_root,
    climb,
    encode_path,
    origin,
    raw_path,
    request_path,
    route_path,
    with_one_slash,
)

SUBDELIMITERS = "/:@!$&'()*+,;=-._~"


@pytest.mark.parametrize(
    ("path", "also_safe", "written"),
    [
        (SUBDELIMITERS, "", SUBDELIMITERS),
        ("/aX%?#[]", "", "/aX%25%3F%23%5B%5D"),
        ("/a%?", "%?", "/a%?"),
        ("/ü ", "", "/%C3%BC%20"),
        ("/\udcff", "", "/%3F"),
    ],
)
def test_a_path_is_written_whatever_is_in_it(path: str, also_safe: str, written: str) -> None:
    assert encode_path(path, also_safe) == written
    assert also_safe or encode_path(path) == written


@pytest.mark.parametrize(
    ("path", "written"),
    [("//evil.test/a", "/evil.test/a"), ("///X", "/X"), ("/a//b", "/a//b"), ("a", "a"), ("", "")],
)
def test_a_path_is_not_read_as_another_host(path: str, written: str) -> None:
    assert with_one_slash(path) == written


@pytest.mark.parametrize(
    ("path", "root_path", "route"),
    [
        ("/v1/a", "/v1", "/a"),
        ("/v1", "/v1", ""),
        ("/v10/a", "/v1", "/v10/a"),
        ("/a", "/v1", "/a"),
        ("/a", "", "/a"),
    ],
)
def test_a_route_begins_behind_the_mount_point(path: str, root_path: str, route: str) -> None:
    assert route_path(path, root_path) == route


@pytest.mark.parametrize(
    ("depth", "path", "reference"),
    [
        (0, "/a/b", "a/b"),
        (0, "", "./"),
        (0, "/", "./"),
        (0, "/a:b/c", "./a:b/c"),
        (0, "/a/b:c", "a/b:c"),
        (-1, "/a:b", "./a:b"),
        (1, "/a:b", "../a:b"),
        (1, "", "../"),
        (2, "//X", "../../X"),
    ],
)
def test_a_relative_reference_is_read_as_a_path(depth: int, path: str, reference: str) -> None:
    assert climb(depth, path) == reference


def asked(**fields: Any) -> Request:
    return Request(**({"method": "GET", "path": "/a b"} | fields))


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ({}, "/a%20b"),
        ({"raw_path": b"/a%2Fb?x=1"}, "/a%2Fb"),
        ({"raw_path": b"/a b\xff"}, "/a%20b%FF"),
        ({"raw_path": b"/a:@!$&'()*+,;=?b?c"}, "/a:@!$&'()*+,;="),
    ],
)
def test_a_path_is_written_as_it_was_sent(fields: dict[str, Any], written: str) -> None:
    assert raw_path(asked(**fields)) == written


@pytest.mark.parametrize(
    ("fields", "root", "written"),
    [
        ({}, None, "/a%20b"),
        ({"query": b"q=%41&r?/ "}, None, "/a%20b?q=%41&r?/%20"),
        ({"path": "/X/a", "root_path": "/X/"}, None, "/X/a"),
        ({"path": "/a", "root_path": "/ü"}, None, "/%C3%BC/a"),
        ({"path": "/v1/a", "root_path": "/v1"}, "/outside", "/outside/a"),
        ({"path": "/v1/a", "root_path": "/v1"}, "", "/a"),
        ({"path": "/v1//evil.test", "root_path": "/v1"}, "", "/evil.test"),
        ({"path": "/a", "root_path": "//evil.test"}, None, "/evil.test/a"),
    ],
)
def test_path_and_query_are_written_as_the_client_wrote_them(
    fields: dict[str, Any], root: str | None, written: str
) -> None:
    assert request_path(asked(**fields), root) == written
    assert root is not None or request_path(asked(**fields)) == written


@pytest.mark.parametrize(
    ("path", "root_path", "below"),
    [
        ("/v1/a/b", "/v1", "/a/b"),
        ("/%761/a", "/v1", "/a"),
        ("/v1/X/a", "/v1/X/", "/a"),
        ("/v1", "/v1", "/"),
        ("/a%2Fb", "/v1", "/a%2Fb"),
        ("/v1/a%2Fb", "/v1", "/a%2Fb"),
        ("/a", "", "/a"),
        ("//v1/a", "/v1", "/a"),
    ],
)
def test_what_is_below_the_root_is_found_in_any_spelling_of_it(
    path: str, root_path: str, below: str
) -> None:
    assert below_root(path, root_path) == below


@pytest.mark.parametrize(
    ("host", "is_trusted"),
    [
        (b"api.test", True),
        (b"API_0-9.test:8000", True),
        (b"[::1]", True),
        (b"[2001:db8::A]:80", True),
        (b"a" * 255, True),
        (b"a" * 256, False),
        (b"api.test:", False),
        (b"api.test:123456", False),
        (b"api.test/evil", False),
        (b"user@api.test", False),
        (b"a b", False),
        (b"[:]", False),
        (b"[::1", False),
        (b"\xff", False),
        (b"", False),
    ],
)
def test_a_host_that_is_more_than_an_authority_is_in_no_url(host: bytes, is_trusted: bool) -> None:
    found = origin(asked(headers=((b"host", host),)))
    assert found == (f"http://{host.decode('latin-1')}" if is_trusted else None)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"scheme": "https", "headers": ((b"host", b"api.test"),)}, "https://api.test"),
        ({"scheme": "ws", "headers": ((b"host", b"api.test"),)}, None),
        ({"server": ("127.0.0.1", 80)}, "http://127.0.0.1:80"),
        ({"server": ("::1", 80)}, "http://[::1]:80"),
        ({"server": ("/run/app.sock", None)}, None),
        ({"server": ("a b", 80)}, None),
        ({"server": ("ignored", 80), "headers": ((b"host", b"api.test"),)}, "http://api.test"),
        ({}, None),
    ],
)
def test_an_origin_is_what_the_client_used_or_else_where_the_server_listens(
    fields: dict[str, Any], found: str | None
) -> None:
    assert origin(asked(**fields)) == found
