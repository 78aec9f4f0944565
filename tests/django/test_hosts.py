"""URLs that are given away: under which host, scheme and path."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest

from tests.django.site import LONG, OURS, field, path_of, serving, until
from tests.django.views import Gate

MOUNTED = {"ROOT_URLCONF": "tests.django.mounted"}
TRANSLATED = {"ROOT_URLCONF": "tests.django.translated"}
LOCALE = "django.middleware.locale.LocaleMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"


@pytest.mark.parametrize("budget", [0, None, 60])
def test_a_host_that_is_not_allowed_is_in_no_url(budget: float | None) -> None:
    settings = {"ALLOWED_HOSTS": ["testserver"]}
    with serving("wsgi", BUDGET=budget, settings=settings) as site:
        for path in ("/hello", "/marked", f"/operations/{'0' * 32}"):
            answer = site.call(path, HTTP_HOST="evil.example")
            assert b"evil" not in answer.content
            assert field(answer, "location") is None
        assert answer.status == 400  # a poll


def test_a_port_is_in_the_links() -> None:
    with serving("wsgi", BUDGET=0) as site:
        accepted = site.accepted("/hello", HTTP_HOST="testserver:8443")
    assert (field(accepted, "location") or "").startswith("http://testserver:8443/operations/")


def test_the_host_and_scheme_are_those_in_front_of_the_proxy(way: str) -> None:
    settings = {
        "USE_X_FORWARDED_HOST": True,
        "ALLOWED_HOSTS": ["shop.example"],
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
    }
    headers = [(b"x-forwarded-host", b"shop.example"), (b"x-forwarded-proto", b"https")]
    with serving(way, BUDGET=0, settings=settings) as site:
        accepted = site.accepted("/hello", headers=headers)
        poll = site.call(path_of(accepted), headers=headers)
    for answer in (accepted, poll):
        if answer.status == 202:
            location = field(answer, "location") or ""
            assert location.startswith("https://shop.example/operations/")


def test_headers_of_a_proxy_are_not_trusted_unless_the_project_does(way: str) -> None:
    headers = [(b"x-forwarded-host", b"evil.example"), (b"x-forwarded-proto", b"https")]
    with serving(way, BUDGET=0) as site:
        accepted = site.accepted("/hello", headers=headers)
    assert (field(accepted, "location") or "").startswith("http://testserver/operations/")


def test_the_monitor_is_where_the_project_includes_it(way: str) -> None:
    with serving(way, settings=MOUNTED, BUDGET=LONG) as site:  # nothing else is to be deferred
        accepted = site.accepted("/held", headers=[(b"prefer", b"respond-async")])
        path = path_of(accepted)
        assert path.startswith("/pending/")
        assert site.call(path).status == 202
        status = site.call(f"{path}/status")
        assert status.status == 200
        Gate.opened.set()
        until(lambda: site.call(path).status == 201)
        assert site.call(f"/operations/{path.rpartition('/')[2]}").status == 404
        deleted = site.call(path, "DELETE")
        assert deleted.status == 204
        assert site.call(path).status == 410


def test_an_included_monitor_is_never_deferred_itself(way: str) -> None:
    with serving(way, BUDGET=0, settings=MOUNTED) as site:
        accepted = site.accepted("/hello")
        path = path_of(accepted)
        assert site.follow(accepted).content == b"hello"
        assert site.call(f"{path}/status").status == 200


@pytest.mark.parametrize("language", ["de", "fr"])
def test_the_monitor_may_be_below_a_language(way: str, language: str) -> None:
    with serving(way, around=[LOCALE], settings=TRANSLATED) as site:
        first = site.accepted("/en/held")
        accepted = site.accepted(f"/{language}/held")
        assert path_of(first).startswith("/en/pending/")
        assert path_of(accepted).startswith(f"/{language}/pending/")
        Gate.opened.set()
        for each in (first, accepted):
            assert site.follow(each).content == b"held"
            other = path_of(each).replace("/en/", "/de/")  # a client that speaks German now
            assert site.call(other).content == b"held"


def test_the_monitor_may_be_below_a_path_that_needs_quoting(way: str) -> None:
    settings = {"ROOT_URLCONF": "tests.django.quoted"}
    with serving(way, settings=settings, BUDGET=0) as site:
        accepted = site.accepted("/held")
        path = path_of(accepted)
        assert path.startswith("/f%C3%BCr%20sp%C3%A4ter/")
        # A poll is no request that may be deferred itself.
        status = site.call(f"{unquote(path)}/status")
        assert status.status == 200
        Gate.opened.set()
        until(lambda: site.call(unquote(path)).content == b"held")


def test_an_included_monitor_is_behind_the_projects_guards(way: str) -> None:
    chain = [SESSIONS, AUTHENTICATION, LOGIN_REQUIRED]
    settings = MOUNTED | {
        "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
        "LOGIN_URL": "/login/",
    }
    with serving(way, around=chain, settings=settings) as site:
        answer = site.call(f"/pending/{'0' * 32}")
    assert answer.status == 302
    assert (field(answer, "location") or "").startswith("/login/")


def test_an_included_monitor_without_the_middleware_says_so() -> None:
    settings = MOUNTED | {"DEBUG_PROPAGATE_EXCEPTIONS": True}
    with (
        serving("wsgi", bare=True, settings=settings) as site,
        pytest.raises(AssertionError, match=re.escape(OURS)),
    ):
        site.call(f"/pending/{'0' * 32}")
