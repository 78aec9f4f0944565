"""Many requests at once, around the budget; and what is left of them."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.urls import path

from raincheck.engine import threads
from tests.django.site import LONG, path_of, serving, until

REQUESTS = int(os.environ.get("TEST_REQUESTS", "80"))
URLS = {"ROOT_URLCONF": __name__}
_SEEN: weakref.WeakSet[Any] = weakref.WeakSet()


def about_as_long(request: HttpRequest) -> HttpResponse:
    threading.Event().wait(0.05 + (int(request.GET["n"]) % 5 - 2) / 500)
    return HttpResponse(request.GET["n"] * 1000)


def noted(request: HttpRequest) -> HttpResponse:
    _SEEN.add(request)
    return HttpResponse("noted")


async def noted_async(request: HttpRequest) -> HttpResponse:
    _SEEN.add(request)
    return HttpResponse("noted")


pytestmark = [pytest.mark.load, pytest.mark.slow]

urlpatterns = [
    path("about", about_as_long),
    path("noted", noted),
    path("noted/async", noted_async),
]


def test_every_request_around_the_budget_is_answered_once_and_right(way: str) -> None:
    with serving(way, settings=URLS, BUDGET=0.05) as site:

        def one(n: int) -> int:
            query = f"n={n}"
            key: dict[str, Any] = (
                {"QUERY_STRING": query} if way == "wsgi" else {"query_string": query.encode()}
            )
            first = answer = site.own("/about", **key)
            while answer.status == 202:
                answer = site.own(path_of(first))
            assert (answer.status, answer.content) == (200, str(n).encode() * 1000)
            return int(first.status)

        with ThreadPoolExecutor(50) as pool:
            statuses = list(pool.map(one, range(200)))
    assert set(statuses) <= {200, 202}


@pytest.mark.parametrize("url", ["/noted", "/noted/async"])
@pytest.mark.parametrize("budget", [0, LONG])
def test_nothing_of_a_request_stays_behind(
    way: str, url: str, budget: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "IDLE", 0.2)
    with serving(way, settings=URLS, BUDGET=budget) as site:
        send = site.call if budget else site.deferred

        def some(count: int) -> None:
            for _ in range(count):
                assert send(url).content == b"noted"

        def adds_threads() -> bool:
            before, end = threading.active_count(), time.monotonic() + 2
            some(REQUESTS)
            while threading.active_count() > before + 2:
                if time.monotonic() > end:
                    return True
                time.sleep(0.01)
            return False

        some(20)
        # On a busy machine a pool may grow once or twice; what stays behind is added every time.
        assert not all(adds_threads() for _ in range(5))
        until(lambda: _collected(lambda: len(_SEEN) <= 1))
        until(lambda: _collected(lambda: not _wsgi_requests()[2:]))


def _collected(condition: Callable[[], bool]) -> bool:
    gc.collect()
    return condition()


def _wsgi_requests() -> list[object]:
    return [it for it in gc.get_objects() if type(it) is WSGIRequest]
