"""The setting `RAINCHECK`, and what `manage.py check` says of it and of the rest."""

# mypy: disable-error-code="import-untyped, untyped-decorator"

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from csp.constants import NONCE, SELF
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.views.decorators.http import require_GET

from raincheck import long_running
from raincheck.django import RaincheckMiddleware
from raincheck.django.checks import check_marks, check_settings
from tests.django.site import OURS

CORS = "corsheaders.middleware.CorsMiddleware"
SECURITY = "django.middleware.security.SecurityMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
RIGHT = [
    SECURITY,
    CORS,
    SESSIONS,
    AUTHENTICATION,
    OURS,
    "django.middleware.common.CommonMiddleware",
]


class Ours(RaincheckMiddleware):
    """One's own middleware, derived from raincheck's."""


class Authentication:
    """What a project puts in the place of Django's."""


def never(get_response: Callable[[HttpRequest], HttpResponse]) -> None:
    """Stand for a middleware that is a function."""


@long_running
def marked(request: HttpRequest) -> HttpResponse:
    return HttpResponse("marked")


@require_GET
@long_running
def marked_properly(request: HttpRequest) -> HttpResponse:
    return HttpResponse("marked")


urlpatterns = [path("marked", marked), path("properly", marked_properly)]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (["BUDGET"], "must be a dict"),
        ("BUDGET", "must be a dict"),
        ({"budget": 2}, "in capitals, unlike 'budget'"),
        ({1: 2}, "in capitals, unlike 1"),
        ({"BUDGE": 2}, "did you mean 'budget'"),
        ({"BUDGET": -1}, "budget must be a number"),
        ({"BUDGET": "2"}, "budget must be a number"),
        ({"MODE": "sometimes"}, "auto, prefer, marked"),
        ({"PREFIX": "operations/"}, "prefix must be a path"),
        ({"OWNER": "no.such.thing"}, "OWNER: No module named"),
        ({"OWNER": "owner"}, "OWNER:"),
        ({"OWNER": 5}, "owner must be callable"),
        ({"STATUS_URL": f"{__name__}.nothing"}, "STATUS_URL:"),
        ({"LIMITS": {"REQUESTS": 5}}, "limits has"),
        ({"LIMITS": {"OPERATIONS": -5}}, "operations must be an integer"),
        ({"LIMITS": 5}, "limits has"),
        ({"INCLUDE": "/a"}, "list of path patterns"),
        ({"INCLUDE": ["a"]}, "begins with a slash"),
        ({"PUBLIC_URL": "example.org"}, "public_url must be like"),
        ({"STORE": 5}, "store must be"),
    ],
)
def test_a_wrong_setting_is_told_at_start_and_by_the_check(setting: Any, says: str) -> None:
    with override_settings(RAINCHECK=setting, MIDDLEWARE=RIGHT, ROOT_URLCONF=__name__):
        with pytest.raises(ImproperlyConfigured, match=says) as raised:
            RaincheckMiddleware(lambda request: None)
        assert "RAINCHECK" in str(raised.value)
        assert [(it.id, it.msg) for it in checked()] == [("raincheck.E001", str(raised.value))]


@pytest.mark.parametrize("store", ["no-scheme", "mongodb://somewhere", ""])
def test_a_store_that_does_not_exist_is_told_at_start_and_by_the_check(store: str) -> None:
    with override_settings(RAINCHECK={"STORE": store}, MIDDLEWARE=RIGHT, ROOT_URLCONF=__name__):
        with pytest.raises(ImproperlyConfigured, match="RAINCHECK"):
            RaincheckMiddleware(lambda request: None)
        assert [it.id for it in checked()] == ["raincheck.E001"]


def checked() -> list[CheckMessage]:
    found: list[CheckMessage] = [*check_settings(None), *check_marks(None)]
    return found


def said(middleware: list[str], urls: str = __name__, **more: Any) -> list[str]:
    """Return what the check says of a project."""
    settings: dict[str, Any] = {"RAINCHECK": {}, "MIDDLEWARE": middleware, "ROOT_URLCONF": urls}
    with override_settings(**(settings | more)):
        found = checked()
    assert all(it.hint for it in found)
    return sorted(f"{it.id}" for it in found)


def test_the_check_is_silent_for_a_right_project() -> None:
    assert said(RIGHT) == []


def test_the_check_misses_the_middleware() -> None:
    assert said(RIGHT[:4]) == ["raincheck.W001"]


def test_the_check_finds_a_second_middleware() -> None:
    assert said([*RIGHT, OURS]) == ["raincheck.W002"]


def test_the_check_knows_classes_that_are_derived_from_ours() -> None:
    mine = [f"{__name__}.Ours" if it == OURS else it for it in RIGHT]
    assert said(mine) == []
    assert said([*mine, OURS]) == ["raincheck.W002"]


def test_the_check_names_each_middleware_that_belongs_outside() -> None:
    for n in range(4):
        wrong = [*RIGHT[:n], *RIGHT[n + 1 :], RIGHT[n]]
        assert said(wrong) == ["raincheck.W003"]
    assert said([OURS, *RIGHT[:4]]) == ["raincheck.W003"] * 4


def test_the_check_does_not_mind_functions_and_what_it_can_not_import() -> None:
    assert said([*RIGHT, f"{__name__}.never", "no.such.Middleware"]) == []


@pytest.mark.parametrize("store", [None, "sqlite:///srv/operations.db"])
def test_the_check_wants_a_store_where_workers_have_to_find_it(
    store: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAINCHECK_STORE", raising=False)
    found = said(
        RIGHT,
        RAINCHECK={"STORE": store, "APPLICATION": "shop", "RUNNERS": {"/reports/**": "workers"}},
    )
    assert found == ([] if store else ["raincheck.W012"])


@pytest.mark.parametrize("debug", [False, True])
def test_the_check_warns_of_memory_only_where_workers_are_to_be_expected(debug: bool) -> None:
    found = said(RIGHT, RAINCHECK={"STORE": "memory:"}, DEBUG=debug)
    assert found == ([] if debug else ["raincheck.W004"])


@pytest.mark.parametrize("name", [None, "shop"])
def test_the_check_wants_a_name_where_other_services_may_use_the_store(name: str | None) -> None:
    found = said(RIGHT, RAINCHECK={"STORE": "redis://localhost:1/0", "APPLICATION": name})
    assert found == ([] if name else ["raincheck.W007"])


def test_the_check_does_not_need_urls() -> None:
    assert said(RIGHT, urls="") == []


def test_manage_py_check_says_each_thing_once() -> None:
    wrong = [OURS, SESSIONS, OURS]
    errors = io.StringIO()
    installed = ["django.contrib.contenttypes", "django.contrib.auth", "raincheck.django"]
    with override_settings(
        INSTALLED_APPS=installed,
        MIDDLEWARE=wrong,
        RAINCHECK={"STORE": "memory:"},
        ROOT_URLCONF=__name__,
        SILENCED_SYSTEM_CHECKS=["auth.E003"],
    ):
        call_command("check", stdout=io.StringIO(), stderr=errors)
        text = errors.getvalue()
        for number in ("W002", "W003", "W004"):
            assert text.count(f"raincheck.{number}") == 1
        with override_settings(RAINCHECK={"BUDGET": -1}), pytest.raises(SystemCheckError) as raised:
            call_command("check", stdout=io.StringIO(), stderr=io.StringIO())
    assert str(raised.value).count("raincheck.E001") == 1


def test_the_check_finds_marks_that_let_strangers_in() -> None:
    assert said(RIGHT, urls="tests.django.guarded") == ["raincheck.W006"]


REVISIONS = "reversion.middleware.RevisionMiddleware"
POLICY = "csp.middleware.CSPMiddleware"
CRUM = "crum.CurrentRequestUserMiddleware"
TENANTS = "django_tenants.middleware.main.TenantMainMiddleware"
WITH_NONCES = {"DIRECTIVES": {"script-src": [SELF, NONCE]}}
SIGNED = "django.contrib.sessions.backends.signed_cookies"


def test_the_check_finds_what_begins_a_transaction_around_ours() -> None:
    assert said([REVISIONS, *RIGHT]) == ["raincheck.W009"]
    assert said([*RIGHT, REVISIONS]) == []


def test_the_check_finds_nonces_that_are_made_for_each_poll() -> None:
    policies: dict[str, Any] = {"CONTENT_SECURITY_POLICY": WITH_NONCES}
    assert said([POLICY, *RIGHT], **policies) == ["raincheck.W010"]
    assert said([*RIGHT, POLICY], **policies) == []
    assert said([POLICY, *RIGHT], CONTENT_SECURITY_POLICY={"DIRECTIVES": {"a": [SELF]}}) == []
    assert said([POLICY, *RIGHT], SECURE_CSP={"script-src": ["<CSP_NONCE_SENTINEL>"]}) == [
        "raincheck.W010"
    ]


def test_the_check_finds_what_is_kept_for_the_thread_of_the_server() -> None:
    assert said([CRUM, *RIGHT]) == ["raincheck.W011"]
    assert said([*RIGHT, CRUM]) == []
    assert said([CRUM, *RIGHT], RAINCHECK={"PREPARE": "raincheck.django.prepare.crum"}) == []


def test_the_check_wants_a_tenant_to_be_known_to_polls() -> None:
    assert said([TENANTS, *RIGHT]) == []
    assert said([*RIGHT, TENANTS]) == ["raincheck.W003"]


def test_the_check_tells_what_sessions_in_cookies_lose() -> None:
    assert said(RIGHT, SESSION_ENGINE=SIGNED) == ["raincheck.I001"]
    assert said([CORS, OURS], SESSION_ENGINE=SIGNED) == []
