"""Clients that leave before the 202: whatever Django closes then, their views may go on with."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator"

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path

from raincheck.contracts import Filter
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import Operation
from raincheck.stores.memory import MemoryStore
from tests.django.site import LONG, SOON, WAYS, Site, serving, until
from tests.django.views import Gate
from tests.support import asgi

KEY = (b"idempotency-key", b'"8e03978e"')
BODY = b"x" * 1000
URLS = {"ROOT_URLCONF": __name__}
IN_ASGI = [way for way in WAYS if way != "wsgi"]


class Slow(MemoryStore):
    """Records an operation only when told to."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.asked, self.may = threading.Event(), threading.Event()
        self._error = error

    def create(self, *arguments: Any) -> Operation:
        self.asked.set()
        assert self.may.wait(30)
        if self._error is not None:
            raise self._error
        return super().create(*arguments)


def late(request: HttpRequest) -> HttpResponse:
    Gate.seen["request"] = request
    Gate.wait()
    return _read(request)


async def late_async(request: HttpRequest) -> HttpResponse:
    Gate.seen["request"] = request
    await Gate.wait_async()
    return _read(request)


def _read(request: HttpRequest) -> HttpResponse:
    """Read the body, of which nothing was looked at before."""
    Gate.seen["body"] = request.body
    return HttpResponse(f"{len(Gate.seen['body'])} bytes")


urlpatterns = [path("late", late), path("late/async", late_async)]


async def _leave(site: Site, url: str, headers: asgi.Pairs, reached: Callable[[], object]) -> None:
    """Send a request and leave when something is reached."""
    length = (b"content-length", b"%d" % len(BODY))
    client = asgi.Call(site.handler, asgi.http_scope(url, "POST", [*headers, length]), [BODY])
    serving_it = asyncio.create_task(client.run())
    while not reached():  # noqa: ASYNC110 - set by a thread
        await asyncio.sleep(0.002)
    client.leave()
    # A sync middleware around keeps the server until the view is over.
    await asyncio.wait([serving_it], timeout=0.2)


@pytest.mark.parametrize("url", ["/late", "/late/async"])
@pytest.mark.parametrize("way", IN_ASGI)
def test_a_client_that_leaves_within_its_budget_leaves_its_body(way: str, url: str) -> None:
    with serving(way, settings=URLS, BUDGET=LONG) as site:
        assert site.loop is not None
        site.loop.run(_leave(site, url, [KEY], lambda: "request" in Gate.seen))
        Gate.opened.set()
        until(lambda: "body" in Gate.seen)
        again = site.call(url, "POST", [KEY], BODY)
        assert (again.status, again.content) == (200, b"1000 bytes")
        until(lambda: Gate.seen["request"]._stream.closed)  # nothing stays open
    Gate.seen.clear()


@pytest.mark.parametrize("budget", [0, SOON])
def test_a_client_that_leaves_while_its_operation_is_recorded_leaves_its_body(
    budget: float,
) -> None:
    store = Slow()
    with serving("asgi", settings=URLS, BUDGET=budget, STORE=store) as site:
        assert site.loop is not None
        site.loop.run(_leave(site, "/late/async", [], store.asked.is_set))
        store.may.set()
        Gate.opened.set()
        until(lambda: [it for it in store.find(Filter())[0] if it.is_terminal])
        (operation,), _ = store.find(Filter())
        assert (operation.state.value, Gate.seen.get("body")) == ("succeeded", BODY)
    Gate.seen.clear()


def test_what_is_not_recorded_is_django_s_to_close() -> None:
    store = Slow(StoreUnavailable("down"))

    def is_reached() -> bool:  # the budget may be over before the view has begun
        return store.asked.is_set() and "request" in Gate.seen

    with serving("asgi", settings=URLS, BUDGET=SOON, STORE=store) as site:
        assert site.loop is not None
        site.loop.run(_leave(site, "/late/async", [], is_reached))
        assert not Gate.seen["request"]._stream.closed
        store.may.set()
        until(lambda: Gate.seen["request"]._stream.closed)
    Gate.seen.clear()
