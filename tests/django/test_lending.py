"""One request, one connection: it is lent to the handler's thread, and comes back in time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from tests.django.site import LONG, serving, until
from tests.django.views import Gate

PREPARING = f"{__name__}.preparing"
SETTINGS = {"ROOT_URLCONF": __name__}


class Seen:
    """What the middleware around has seen of the connection of its thread."""

    before: Any
    after: Any
    handler: Any


def preparing(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Prepare the connection of this thread, as one for tenants does."""

    def middleware(request: HttpRequest) -> HttpResponse:
        Seen.before = connections["default"]
        connection.tenant = "acme"
        response = get_response(request)
        Seen.after = connections["default"]
        del connections["default"]  # the next request is to prepare its own
        return response

    return middleware


def _shown() -> dict[str, Any]:
    Seen.handler = connections["default"]
    connection.validate_thread_sharing()
    return {"tenant": getattr(connection, "tenant", None)}


def show(request: HttpRequest) -> HttpResponse:
    return JsonResponse(_shown())


async def show_async(request: HttpRequest) -> HttpResponse:
    return JsonResponse(await sync_to_async(_shown)())


async def without(request: HttpRequest) -> HttpResponse:
    return JsonResponse({})


def held(request: HttpRequest) -> HttpResponse:
    Gate.wait()
    return show(request)


async def held_async(request: HttpRequest) -> HttpResponse:
    await Gate.wait_async()
    return await show_async(request)


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def pieces() -> Iterator[str]:
        for _ in range(3):
            yield json.dumps(_shown()) + "\n"

    return StreamingHttpResponse(pieces())


def fails(request: HttpRequest) -> HttpResponse:
    _shown()
    raise ValueError("on purpose")


urlpatterns = [
    path("show", show),
    path("show/async", show_async),
    path("without", without),
    path("held", held),
    path("held/async", held_async),
    path("stream", stream),
    path("fails", fails),
]
TENANT = {"tenant": "acme"}


@pytest.fixture(params=["wsgi", "asgi, sync outside", "asgi, sync around"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("path", ["/show", "/show/async"])
def test_a_handler_in_time_has_the_connection_that_was_prepared_around_it(
    way: str, path: str
) -> None:
    with serving(way, around=[PREPARING], settings=SETTINGS, BUDGET=LONG) as site:
        for _ in range(3):
            assert json.loads(site.call(path).content) == TENANT
            assert Seen.handler is Seen.before
            assert Seen.after is Seen.before


@pytest.mark.parametrize("path", ["/held", "/held/async"])
def test_a_deferred_handler_keeps_the_connection_and_who_is_around_gets_another(
    way: str, path: str
) -> None:
    with serving(way, around=[PREPARING], settings=SETTINGS) as site:
        accepted = site.accepted(path)
        until(lambda: Seen.after is not Seen.before)
        lent = Seen.before
        Gate.opened.set()
        assert json.loads(site.follow(accepted).content) == TENANT
        assert Seen.handler is lent
        assert not lent.allow_thread_sharing


@pytest.mark.parametrize("path", ["/show", "/show/async"])
def test_a_handler_that_is_deferred_from_the_start_has_it_too(way: str, path: str) -> None:
    with serving(way, around=[PREPARING], settings=SETTINGS, BUDGET=0) as site:
        accepted = site.accepted(path)
        assert Seen.after is not Seen.before
        assert json.loads(site.follow(accepted).content) == TENANT


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_a_stream_uses_it_as_long_as_it_is_sent(way: str) -> None:
    with serving(way, around=[PREPARING], settings=SETTINGS, BUDGET=LONG) as site:
        pieces = site.call("/stream").content.splitlines()
        assert [json.loads(piece) for piece in pieces] == [TENANT] * 3
        until(lambda: not Seen.before.allow_thread_sharing)


def test_a_handler_that_fails_gives_it_back(way: str) -> None:
    with serving(way, around=[PREPARING], settings=SETTINGS, BUDGET=LONG) as site:
        assert site.call("/fails").status == 500
        assert Seen.after is Seen.before
        until(lambda: not Seen.before.allow_thread_sharing)


def test_an_async_handler_without_sync_code_needs_none() -> None:
    with serving("asgi, sync outside", around=[PREPARING], settings=SETTINGS, BUDGET=LONG) as site:
        site.call("/without")
        assert Seen.after is Seen.before
        assert not Seen.before.allow_thread_sharing
