"""What Django keeps beside a request: language, prefix, URL configuration, and who sets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from tests.django.site import LONG, field, path_of, serving
from tests.django.test_bodies import _query
from tests.django.views import Gate

LOCALE = "django.middleware.locale.LocaleMiddleware"
ZONE = f"{__name__}.zone_middleware"
OTHER_URLS = f"{__name__}.other_urls"
GERMAN = (b"accept-language", b"de")


def zone_middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    def middleware(request: HttpRequest) -> HttpResponse:
        with timezone.override("Asia/Tokyo"):
            return get_response(request)

    return middleware


def other_urls(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Route to the bench of another test."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.urlconf = "tests.django.mounted"
        return get_response(request)

    return middleware


def _root(way: str) -> dict[str, Any]:
    return {"SCRIPT_NAME": "/app"} if way == "wsgi" else {"root_path": "/app"}


def _at_root(way: str, path: str) -> str:
    return path if way == "wsgi" else f"/app{path}"


@pytest.mark.parametrize("path", ["/surroundings", "/surroundings/async"])
def test_a_deferred_view_speaks_the_language_of_its_request(way: str, path: str) -> None:
    with serving(way, around=[LOCALE, ZONE]) as site:
        more = _query(way, "hold=1") | _root(way)
        accepted = site.accepted(_at_root(way, path), headers=[GERMAN], **more)
        Gate.opened.set()
        url = path_of(accepted)
        assert url.startswith("/app/operations/")
        while (answer := site.call(_served(way, url), **_root(way))).status == 202:
            pass
    assert json.loads(answer.content) == {
        "language": "de",
        "prefix": "/app/",
        "zone": "Asia/Tokyo",
    }


def _served(way: str, path: str) -> str:
    return path.removeprefix("/app") if way == "wsgi" else path


def test_a_view_in_time_speaks_the_language_of_its_request(way: str) -> None:
    with serving(way, around=[LOCALE], BUDGET=LONG) as site:
        answer = site.call("/surroundings", headers=[GERMAN])
    assert json.loads(answer.content)["language"] == "de"
    assert field(answer, "content-language") == "de"


def test_a_language_that_a_view_chooses_is_seen_by_the_middleware_around(way: str) -> None:
    with serving(way, bare=True, around=[LOCALE]) as site:
        bare = site.call("/german")
    with serving(way, around=[LOCALE], BUDGET=LONG) as site:
        wrapped = site.call("/german")
    assert field(wrapped, "content-language") == field(bare, "content-language")


def test_urls_that_a_middleware_chooses_are_those_of_the_view(way: str) -> None:
    with serving(way, around=[OTHER_URLS], BUDGET=0) as site:
        assert site.deferred("/other").content == b"other"


@pytest.mark.parametrize("setting", ["/app", "/app/"])
def test_a_forced_script_name_is_in_the_links(way: str, setting: str) -> None:
    with serving(way, BUDGET=0, settings={"FORCE_SCRIPT_NAME": setting}) as site:
        accepted = site.accepted(_at_root(way, "/hello") if setting == "/app" else "/hello")
    location = field(accepted, "location")
    assert location is not None
    assert location.startswith("http://testserver/app/operations/")
    assert json.loads(accepted.content)["links"]["response"].startswith("/app/operations/")


def test_the_202_of_each_request_leads_to_where_status_url_says_for_it(way: str) -> None:
    def tenant_url(request: HttpRequest, operation_id: str) -> str:
        return f"/{request.headers['x-tenant']}/pending/{operation_id}"

    with serving(way, BUDGET=0, STATUS_URL=tenant_url) as site:
        for tenant in ("acme", "globex"):
            accepted = site.accepted("/hello", headers=[(b"x-tenant", tenant.encode())])
            assert path_of(accepted).startswith(f"/{tenant}/pending/")
