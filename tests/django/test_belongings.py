"""What belongs to a thread or to the server's event loop stays there, whoever runs the view."""

# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.django.site import LONG, WAYS, serving

WITH_CACHE = f"{__name__}.WithCache"
CACHES = {"default": {"BACKEND": f"{__name__}.Cache"}}


class Cache(LocMemCache):
    """Counts how many are made."""

    made: ClassVar[list[Cache]] = []

    def __init__(self, name: str, params: dict[str, Any]) -> None:
        super().__init__(name, params)
        self.made.append(self)


class Seen:
    """What the last request met, in the middleware around and in its view."""

    around: ClassVar[list[Any]] = []
    inside: ClassVar[list[Any]] = []


class WithCache:
    """A middleware, of either kind, that uses the cache before and after the view."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if iscoroutinefunction(self.get_response):
            return self.asynchronously(request)
        Seen.around.append(caches["default"])
        response = self.get_response(request)
        Seen.around.append(caches["default"])
        return response

    async def asynchronously(self, request: HttpRequest) -> HttpResponse:
        Seen.around.append(caches["default"])
        response: HttpResponse = await self.get_response(request)
        Seen.around.append(caches["default"])
        return response


def cached(request: HttpRequest) -> HttpResponse:
    Seen.inside.append(caches["default"])
    return HttpResponse("cached")


async def looping(request: HttpRequest) -> HttpResponse:
    Seen.inside.append(asyncio.get_running_loop())
    await sync_to_async(lambda: None)()
    return HttpResponse("looping")


urlpatterns = [path("cached", cached), path("looping", looping)]


@pytest.fixture(autouse=True)
def _unseen() -> None:
    Seen.around, Seen.inside, Cache.made = [], [], []


@pytest.mark.parametrize("budget", [0, LONG])
@pytest.mark.parametrize("way", WAYS)
def test_no_cache_client_is_used_by_the_view_and_by_the_middleware_around(
    way: str, budget: float
) -> None:
    settings = {"ROOT_URLCONF": __name__, "CACHES": CACHES}
    with serving(way, around=[WITH_CACHE], settings=settings, BUDGET=budget) as site:
        started = site.call("/cached")
        if started.status == 202:
            site.follow(started)
    assert len(Seen.inside) == 1
    assert all(cache is not Seen.inside[0] for cache in Seen.around)
    before, after, *_ = Seen.around
    assert before is after


def test_a_handlers_thread_keeps_its_cache_client() -> None:
    settings = {"ROOT_URLCONF": __name__, "CACHES": CACHES}
    with serving("wsgi", settings=settings, BUDGET=LONG) as site:
        for _ in range(5):
            assert site.call("/cached").status == 200
    assert len({id(cache) for cache in Seen.inside}) == 1


@pytest.mark.parametrize("budget", [0, LONG])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "wsgi"])
def test_an_async_view_runs_in_the_servers_event_loop(way: str, budget: float) -> None:
    with serving(way, settings={"ROOT_URLCONF": __name__}, BUDGET=budget) as site:
        started = site.call("/looping")
        answer = started if started.status != 202 else site.follow(started)
        assert (answer.status, answer.content) == (200, b"looping")
        assert site.loop is not None
        assert Seen.inside == [site.loop._loop]
