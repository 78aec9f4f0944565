"""Which cookies polls carry: those of their path and scheme that have not been taken back."""

from __future__ import annotations

import pytest

from raincheck.client.fields import Cookies
from tests.client.playing import WALL

HOME = "https://api.example"


def sent(url: str, *set_before: str) -> str | None:
    """Return the field that a poll of a URL carries."""
    cookies = Cookies()
    for cookie in set_before:
        cookies.learn((("set-cookie", cookie),), WALL)
    return dict(cookies.added_to((), url)).get("cookie")


@pytest.mark.parametrize(
    ("path", "below", "is_sent"),
    [
        *(("/r", "/r", True), ("/r/1", "/r", True), ("/r/1", "/r/", True), ("/r2", "/", True)),
        *(("/r2", "/r", False), ("/", "/r", False), ("/r", "/r/", False), ("/r", "r", True)),
    ],
)
def test_cookies_go_to_their_path_and_below(path: str, below: str, is_sent: bool) -> None:
    assert (sent(f"{HOME}{path}", f"a=1; Path={below}") == "a=1") is is_sent


def test_cookies_that_are_secure_do_not_go_over_http() -> None:
    assert sent(f"{HOME}/r", "a=1; Secure") == "a=1"
    assert sent("http://api.example/r", "a=1; Secure", "b=2") == "b=2"


@pytest.mark.parametrize(
    "end",
    [
        *("Expires=Thu, 01 Jan 1970 00:00:00 GMT", "expires=Thu, 01-Jan-1970 00:00:01 GMT"),
        *("Max-Age=0", "Max-Age=-5", "Max-Age=0; Expires=Fri, 01 Jan 2100 00:00:00 GMT"),
    ],
)
def test_cookies_that_have_ended_are_taken_back(end: str) -> None:
    assert sent(f"{HOME}/r", "a=1; Path=/", f"a=; {end}; Path=/") is None


@pytest.mark.parametrize(
    "end",
    [
        *("Expires=Fri, 01 Jan 2100 00:00:00 GMT", "Expires=soon", "Expires="),
        *("Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "Expires=1 Jan 99999 00:00:00 GMT"),
    ],
)
def test_cookies_that_have_not_ended_are_sent(end: str) -> None:
    assert sent(f"{HOME}/r", f"a=1; {end}") == "a=1"
