"""`PREPARE`: what is called in the handler's thread, for what is kept for each thread."""

# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from auditlog.context import auditlog_value
from auditlog.models import LogEntry
from crum import get_current_request
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db.models.signals import pre_save
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import override_settings
from django.urls import path
from simple_history.models import HistoricalRecords

from raincheck.django import RaincheckMiddleware
from tests.django.site import LONG, SOON, serving, until
from tests.django.views import Gate

SETTINGS = {"ROOT_URLCONF": __name__}
KNOWING = [
    f"{__name__}.logging_in",
    "crum.CurrentRequestUserMiddleware",
    "auditlog.middleware.AuditlogMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
]
READY = ["raincheck.django.prepare.crum", "raincheck.django.prepare.auditlog"]
_OWN = threading.local()
_LOG: list[str] = []


def logging_in(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Find a user without a database."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.user = User(pk=7, username="ada")
        return get_response(request)

    return middleware


def _seen(request: HttpRequest) -> dict[str, Any]:
    entry = LogEntry()
    pre_save.send(sender=LogEntry, instance=entry)
    history = getattr(HistoricalRecords.context, "request", None)
    return {
        "crum": get_current_request() is request,
        "auditlog": entry.actor_id,
        "simple history": getattr(history, "path", None) == request.path,
        "own": getattr(_OWN, "path", None),
    }


def show(request: HttpRequest) -> HttpResponse:
    if "held" in request.path:
        Gate.wait()
    return JsonResponse(_seen(request))


async def show_async(request: HttpRequest) -> HttpResponse:
    if "held" in request.path:
        await Gate.wait_async()
    return JsonResponse(await sync_to_async(_seen)(request))


urlpatterns = [
    path("show", show),
    path("held", show),
    path("show/async", show_async),
    path("held/async", show_async),
]


def keep(request: HttpRequest) -> Callable[[], None]:
    _OWN.path = request.path
    _LOG.append(f"begin {threading.current_thread().name}")

    def end() -> None:
        del _OWN.path
        _LOG.append(f"end {threading.current_thread().name}")

    return end


async def late(request: HttpRequest) -> None:
    raise AssertionError


@pytest.fixture(autouse=True)
def _no_receivers() -> Iterator[None]:
    _LOG.clear()
    before = len(pre_save.receivers)
    yield
    until(lambda: len(pre_save.receivers) == before)
    auditlog_value.set({})


@pytest.mark.parametrize("path", ["/show", "/held", "/show/async", "/held/async"])
def test_what_is_kept_for_each_thread_is_known_to_the_handler(way: str, path: str) -> None:
    options: dict[str, Any] = {
        "BUDGET": SOON if "held" in path else LONG,
        "PREPARE": [*READY, keep],
    }
    settings = SETTINGS | {"AUDITLOG_DISABLE_REMOTE_ADDR": False}
    with serving(way, around=KNOWING, settings=settings, **options) as site:
        answer = site.call(path)
        if "held" in path:
            assert answer.status == 202
            Gate.opened.set()
            answer = site.follow(answer)
        shown = json.loads(answer.content)
        assert shown == {"crum": True, "auditlog": 7, "simple history": True, "own": path}
    begun, ended = (line.split()[1] for line in _LOG)
    assert begun == ended != threading.current_thread().name


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        ("no.such.thing", "PREPARE: No module named"),
        ([5], "must be callable and not async"),
        (f"{__name__}.late", "must be callable and not async"),
    ],
)
def test_a_wrong_one_is_told_at_start(prepare: Any, says: str) -> None:
    with (
        override_settings(RAINCHECK={"PREPARE": prepare}),
        pytest.raises(ImproperlyConfigured, match=says),
    ):
        RaincheckMiddleware(lambda request: None)


def test_one_is_given_by_its_name(way: str) -> None:
    options: dict[str, Any] = {"BUDGET": LONG, "PREPARE": f"{__name__}.keep"}
    with serving(way, settings=SETTINGS, around=KNOWING[:1], **options) as site:
        assert json.loads(site.call("/show").content)["own"] == "/show"
