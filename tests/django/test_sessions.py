"""What waits for an operation, such as a long poll, leaves the session as its handler saves it."""

# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.sessions.backends.cache import SessionStore
from django.http import HttpRequest, HttpResponse

from raincheck.monitor.waiters import Watcher
from tests.django.site import PATIENT, SOON, path_of, serving
from tests.django.views import Gate

SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
COUNTING = f"{__name__}.counting"
SETTINGS: dict[str, Any] = {
    "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
    "SESSION_SAVE_EVERY_REQUEST": True,
}
KEY = (b"idempotency-key", b"once")
PREFER = (b"prefer", b"wait=20")


def owner(request: HttpRequest) -> str:
    assert "nobody" not in request.session  # it is loaded
    return "ada"


def counting(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Note each request in the session, as those do that log out who has gone."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.session["requests"] = request.session.get("requests", 0) + 1
        return get_response(request)

    return middleware


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Tell when somebody waits for an operation."""
    waits, wait = threading.Event(), Watcher.waiting

    def waiting(self: Watcher, *arguments: Any) -> Any:
        waits.set()
        return wait(self, *arguments)

    monkeypatch.setattr(Watcher, "waiting", waiting)
    return waits


def _cookie() -> tuple[bytes, bytes]:
    """Return the cookie of a session that is there."""
    session = SessionStore()
    session["there"] = True
    session.save()
    return b"cookie", f"sessionid={session.session_key}".encode()


@pytest.mark.parametrize("around", [[SESSIONS], [SESSIONS, COUNTING]], ids=["kept", "changed"])
@pytest.mark.parametrize("is_repeat", [False, True], ids=["poll", "repeat"])
def test_what_waits_for_a_handler_does_not_undo_what_that_saves(
    way: str, around: list[str], is_repeat: bool, waits: threading.Event
) -> None:
    more = {"QUERY_STRING": "save=1"} if way == "wsgi" else {"query_string": b"save=1"}
    options: dict[str, Any] = {"OWNER": owner, "EXCLUDE": ["/session/now"], "BUDGET": SOON}
    options["LIMITS"] = {"WAITERS": 5}  # as if the server had more threads than this test
    with serving(way, around=around, settings=SETTINGS, **options) as site:
        cookie = _cookie()
        accepted = site.accepted("/session", "POST", headers=[cookie, KEY], **more)
        headers = [cookie, PREFER]
        answers: list[Any] = []

        def wait() -> None:
            if is_repeat:
                repeated = site.call("/session", "POST", headers=[*headers, KEY], **more)
                answers.append(repeated)
            else:
                answers.append(site.call(path_of(accepted), headers=headers))

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert waits.wait(PATIENT)
        Gate.opened.set()
        waiting.join(PATIENT)
        assert json.loads(answers[0].content)["after"] == "2"
        now = site.call("/session/now", headers=headers[:1])
        assert json.loads(now.content)["after"] == "2"
