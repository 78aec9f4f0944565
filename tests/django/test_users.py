"""Whose an operation is, and what middleware around raincheck adds to its answers."""

# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import User
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.http import HttpRequest, HttpResponse
from django.test import override_settings

from raincheck.operations.operation import Operation
from raincheck.stores.memory import MemoryStore
from tests.django.site import LONG, PATIENT, Pairs, field, path_of, serving, until
from tests.django.views import Gate

CORS = "corsheaders.middleware.CorsMiddleware"
SECURITY = "django.middleware.security.SecurityMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
LOGIN = f"{__name__}.token_middleware"
KNOWN = [SESSIONS, AUTHENTICATION]
SETTINGS: dict[str, Any] = {
    "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
    "AUTHENTICATION_BACKENDS": [f"{__name__}.Everybody"],
    "CORS_ALLOW_ALL_ORIGINS": True,
    "CORS_EXPOSE_HEADERS": ["location"],
}
ORIGIN = (b"origin", b"https://elsewhere.example")


class Everybody(BaseBackend):
    """Knows a user for every id, without a database."""

    def get_user(self, user_id: int) -> User:
        return User(pk=user_id, username=str(user_id), password="unusable")  # noqa: S106


def logged_in(user_id: int) -> Pairs:
    """Return the cookie of a user's session."""
    with override_settings(**SETTINGS):
        session = SessionStore()
        session[SESSION_KEY] = str(user_id)
        session[BACKEND_SESSION_KEY] = f"{__name__}.Everybody"
        session[HASH_SESSION_KEY] = Everybody().get_user(user_id).get_session_auth_hash()
        session.save()
        return [(b"cookie", f"sessionid={session.session_key}".encode())]


def token_middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Learn who it is as late as REST framework does: right around the view."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.user = Everybody().get_user(7)
        return get_response(request)

    return middleware


def _plain(answer: Any) -> Any:
    fields = [(n, v) for n, v in answer.headers if n.lower() != b"set-cookie"]
    return answer.status, fields, answer.content


def test_only_its_user_can_read_an_operation(way: str) -> None:
    with serving(way, around=KNOWN, settings=SETTINGS) as site:
        accepted = site.accepted("/who", headers=logged_in(1))
        Gate.opened.set()
        assert site.follow(accepted, logged_in(1)).content == b"for 1"
        unknown = _plain(site.call(f"/operations/{'0' * 32}", headers=logged_in(2)))
        assert unknown[0] == 404
        for tail in ("", "/status", "/result"):
            for headers in (logged_in(2), ()):
                for method in ("GET", "DELETE") if not tail else ("GET",):
                    path = path_of(accepted) + tail
                    assert _plain(site.call(path, method, headers=headers)) == unknown
        assert site.follow(accepted, logged_in(1)).content == b"for 1"


def test_an_operation_of_nobody_can_be_read_by_who_knows_its_id(way: str) -> None:
    with serving(way, around=KNOWN, settings=SETTINGS) as site:
        accepted = site.accepted("/who")
        Gate.opened.set()
        assert site.follow(accepted, logged_in(3)).content == b"for None"


def test_who_is_known_to_a_view_alone_can_still_poll(way: str) -> None:
    with serving(way, around=KNOWN, within=[LOGIN], settings=SETTINGS) as site:
        accepted = site.accepted("/who")
        Gate.opened.set()
        assert site.follow(accepted).content == b"for 7"


def test_an_owner_of_the_projects_own_is_asked(way: str) -> None:
    key = [(b"x-key", b"mine")]
    with serving(way, BUDGET=0, OWNER=by_key) as site:
        accepted = site.accepted("/hello", headers=key)
        assert site.follow(accepted, key).content == b"hello"
        assert site.call(path_of(accepted)).status == 404


def test_who_polls_is_asked_for_only_where_there_is_an_operation(way: str) -> None:
    asked = list[str]()

    def owner(request: HttpRequest) -> str:
        asked.append(request.path_info)
        return "anne"

    with serving(way, BUDGET=0, OWNER=owner) as site:
        for headers in ((), [(b"prefer", b"wait=1")]):
            assert site.call(f"/operations/{'0' * 32}", headers=headers).status == 404
        assert not asked
        accepted = site.accepted("/hello")
        assert site.follow(accepted).content == b"hello"
        assert path_of(accepted) in asked


def member_middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Authenticate within raincheck, as a project does whose middlewares are in that order."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.member = "anne"
        return get_response(request)

    return middleware


def member(request: HttpRequest) -> str | None:
    known: str | None = getattr(request, "member", None) or request.headers.get("x-poller")
    return known


def test_an_operation_without_its_owner_yet_is_shown_to_nobody(way: str) -> None:
    anne, bob = [(b"x-poller", b"anne")], [(b"x-poller", b"bob")]
    within = [f"{__name__}.member_middleware"]
    with serving(way, within=within, BUDGET=0, OWNER=member) as site:
        accepted = site.accepted("/held")
        path = path_of(accepted)
        assert [site.call(path, headers=who).status for who in (anne, bob, ())] == [202, 202, 202]
        assert site.call(path, "DELETE", headers=bob).status == 503
        Gate.opened.set()
        assert site.follow(accepted, anne).status == 201
        assert [site.call(path, headers=who).status for who in (anne, bob, ())] == [201, 404, 404]


def test_a_user_who_is_authenticated_within_raincheck_is_the_owner_all_the_same(way: str) -> None:
    with serving(way, around=[SESSIONS], within=[AUTHENTICATION], settings=SETTINGS) as site:
        accepted = site.accepted("/who", headers=logged_in(1))
        Gate.opened.set()
        path = path_of(accepted)

        def is_over() -> Any:
            return site.call(path, headers=logged_in(1)).status == 404

        until(is_over)  # a poll is answered before anybody is known: it is nobody's


def test_what_a_visitor_who_is_not_logged_in_has_begun_shows_its_progress(way: str) -> None:
    with serving(way, around=KNOWN, settings=SETTINGS) as site:
        accepted = site.accepted("/who")
        assert site.call(path_of(accepted), "DELETE").status == 202


def test_an_owner_can_be_named_by_its_path(way: str) -> None:
    key = [(b"x-key", b"mine")]
    with serving(way, BUDGET=0, OWNER=f"{__name__}.by_key") as site:
        accepted = site.accepted("/hello", headers=key)
        assert site.follow(accepted, key).content == b"hello"
        assert site.call(path_of(accepted)).status == 404


def by_key(request: HttpRequest) -> str | None:
    key: str | None = request.headers.get("x-key")
    return key


def test_what_raincheck_answers_carries_what_middleware_around_adds(way: str) -> None:
    with serving(way, around=[SECURITY, CORS], settings=SETTINGS) as site:
        accepted = site.accepted("/held", headers=[ORIGIN])
        running = site.call(path_of(accepted), headers=[ORIGIN])
        Gate.opened.set()
        answer = site.follow(accepted, [ORIGIN])
    for response in (accepted, running, answer):
        assert field(response, "access-control-allow-origin") == "*"
        assert field(response, "access-control-expose-headers") == "location"
        assert field(response, "x-content-type-options") == "nosniff"


def test_a_preflight_is_answered_around_raincheck(way: str) -> None:
    ask = [ORIGIN, (b"access-control-request-method", b"DELETE")]
    with serving(way, around=[CORS], BUDGET=0, settings=SETTINGS) as site:
        answer = site.call(f"/operations/{'0' * 32}", "OPTIONS", headers=ask)
    assert answer.status == 200
    assert "DELETE" in (field(answer, "access-control-allow-methods") or "")


def test_a_request_in_time_does_not_look_at_the_session(way: str) -> None:
    with serving(way, around=KNOWN, BUDGET=LONG, settings=SETTINGS) as site:
        assert field(site.call("/hello", headers=logged_in(1)), "vary") is None


def _cookie(answer: Any) -> Pairs:
    cookies = [value for name, value in answer.headers if name.lower() == b"set-cookie"]
    return [(b"cookie", cookies[-1].strip().partition(b";")[0])] if cookies else []


class Waiting(MemoryStore):
    """Records an operation when its view has come to the gate, however short the budget is."""

    def create(self, *arguments: Any) -> Operation:
        assert Gate.reached.wait(PATIENT)
        return super().create(*arguments)


def test_a_session_is_saved_with_the_202_as_it_is_then(way: str) -> None:
    options: dict[str, Any] = {"STORE": Waiting(), "EXCLUDE": ["/session/now"]}
    with serving(way, around=KNOWN, settings=SETTINGS, **options) as site:
        accepted = site.accepted("/session")
        Gate.opened.set()
        answer = site.follow(accepted)
        assert json.loads(answer.content) == {"before": "1", "after": "2"}
        later = site.call("/session/now", headers=_cookie(accepted))
        assert json.loads(later.content) == {"before": "1"}


def _of_requests(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the records that are not what a heartbeat of another test has to say."""
    return [it for it in caplog.records if it.threadName != "raincheck-heartbeat"]


@pytest.mark.parametrize("path", ["/raises", "/missing"])
def test_a_poll_for_a_failure_is_not_logged_as_one(
    way: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(way, BUDGET=0) as site:
        accepted = site.accepted(path)
        caplog.set_level("WARNING", "django.request")
        site.follow(accepted)
        before = _of_requests(caplog)
        site.follow(accepted)
    identifier = path_of(accepted).rpartition("/")[2]
    assert _of_requests(caplog) == before
    assert not [it for it in caplog.records if identifier in it.getMessage()]
