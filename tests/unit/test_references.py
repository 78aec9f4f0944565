"""Where references of a handler lead to from R: where they led to from its own URL."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.http.messages import Request
from raincheck.http.references import base_of, resolve_all

ID = "0" * 32
SHOP = "/shop/orders/new"


def request(path: str = SHOP, root_path: str = "", **more: Any) -> Request:
    return Request("POST", path, raw_path=path.encode(), root_path=root_path, **more)


def at_r(
    reference: str,
    asked: Request,
    location: Any = "absolute",
    public_url: str | None = None,
    name: bytes = b"Location",
) -> str:
    """Return what is sent at R instead of a reference."""
    base = base_of(asked, location, public_url, "/operations")
    [(same, value)] = resolve_all(((name, reference.encode("latin-1")),), base)
    assert same == name
    return value.decode("latin-1")


REFERENCES = [
    *("thanks", "thanks?order=5", "./a", "../b/c", "../../..", "?page=2", "", "#end"),
    *("a:b/c", "./a:b", "a//b", ".//evil.test/x", "../.././/evil.test", "caf\xe9", "a b", "%2F"),
    *("/fast", "//other.test/x", "https://other.test/a?b#c", "mailto:ada@example.org"),
]


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("root_path", ["", "/v1", "/caf\xe9 1"])
@pytest.mark.parametrize("location", ["absolute", "path"])
def test_a_reference_leads_to_the_same_from_r(
    reference: str, root_path: str, location: Any
) -> None:
    root = root_path.replace("\xe9", "%C3%A9").replace(" ", "%20")
    asked = request(root_path + SHOP, root_path, query=b"draft=1")
    meant = urljoin(f"http://api.test{root}{SHOP}?draft=1", reference)
    written = at_r(reference, asked, location)
    found = urljoin(f"http://api.test{root}/operations/{ID}", written)
    assert urlsplit(found).netloc == urlsplit(meant).netloc
    if "//evil" not in reference:  # of a path with two slashes one is left
        assert found == meant


@pytest.mark.parametrize(
    "reference", ["/fast", "//other.test/x", "https://other.test/a?b#c", "mailto:ada@example.org"]
)
@pytest.mark.parametrize("location", ["absolute", "path", "relative"])
def test_what_means_the_same_everywhere_stays_as_it_is(reference: str, location: Any) -> None:
    assert at_r(reference, request(), location) == reference


@pytest.mark.parametrize("raw_path", [b"/v1" + SHOP.encode(), SHOP.encode(), b""])
def test_the_mount_point_is_in_front_whether_the_server_tells_it_twice_or_not(
    raw_path: bytes,
) -> None:
    asked = Request("POST", f"/v1{SHOP}", raw_path=raw_path, root_path="/v1")
    assert at_r("thanks", asked) == "/v1/shop/orders/thanks"


def test_a_public_url_is_where_the_client_sees_the_root() -> None:
    asked = request("/internal" + SHOP, "/internal")
    for public_url in ("https://example.org/api", "https://example.org/api/"):
        assert at_r("thanks", asked, "absolute", public_url) == "/api/shop/orders/thanks"
    assert at_r("thanks", asked, "absolute", "https://example.org") == "/shop/orders/thanks"
    assert at_r("thanks", asked, "path", "https://example.org/api") == (
        "/internal/shop/orders/thanks"
    )


@pytest.mark.parametrize("outside", ["", "/stripped", "/deeply/stripped"])
@pytest.mark.parametrize("reference", ["thanks", "../b/c", "?page=2", "../../.."])
def test_a_proxy_that_strips_a_prefix_and_does_not_say_so_is_survived(
    outside: str, reference: str
) -> None:
    written = at_r(reference, request(), "relative")
    found = urljoin(f"http://api.test{outside}/operations/{ID}", written)
    meant = urljoin(f"http://api.test{SHOP}", reference)
    assert found == meant.replace("http://api.test", f"http://api.test{outside}")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"content-location", "thanks", "/shop/orders/thanks"),
        (
            b"Link",
            '<p?n=2>; rel=next; title="a <b>, \\"<c>", </x>; rel=up,<#a>',
            '</shop/orders/p?n=2>; rel=next; title="a <b>, \\"<c>", </x>; rel=up,'
            "</shop/orders/new#a>",
        ),
        (b"link", '"<a', '"<a'),
        (b"refresh", "5", "5"),
        (b"refresh", "5; url=thanks", "5; url=/shop/orders/thanks"),
        (b"Refresh", "0;URL='thanks'", "0;URL='/shop/orders/thanks'"),
        (b"Refresh", '0;URL="thanks"; x', '0;URL="/shop/orders/thanks"'),
        (b"refresh", "1,thanks", "1,/shop/orders/thanks"),
        (b"refresh", "5; url=https://other.test/", "5; url=https://other.test/"),
        (b"x-location", "thanks", "thanks"),
        (b"location", "http://[", "http://["),
        (b"location", " //[", " //["),
        (b"location", " //evil.test/x", "/evil.test/x"),
        (b"location", "../.././/evil.test", "/evil.test"),
    ],
)
def test_fields_with_references(name: bytes, value: str, expected: str) -> None:
    assert at_r(value, request(), name=name) == expected


def test_below_nobody_knows_what_a_path_is_written_from_the_root() -> None:
    assert base_of(request(), "relative", None, None).resolve("thanks") == "/shop/orders/thanks"


@given(
    st.sampled_from([b"location", b"link", b"refresh"]),
    st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"])),
    st.text(st.characters(max_codepoint=255)),
    st.sampled_from(["absolute", "path", "relative"]),
)
def test_whatever_is_resolved_can_be_sent(
    name: bytes, value: str, path: str, location: Any
) -> None:
    raw = path.encode("latin-1")
    asked = Request("GET", f"/{path}", raw_path=b"/" + raw, query=raw)
    written = at_r(value, asked, location, name=name)
    assert not any(character < " " or character == "\x7f" for character in written)
    if name == b"location" and not value.startswith("//"):
        assert not written.startswith("//")
