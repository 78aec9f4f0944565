"""A streamed response has begun with its first piece: until then its request may be deferred."""

# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path

from tests.django.site import LONG, PATIENT, serving, until
from tests.django.views import Gate
from tests.support import asgi

SETTINGS = {"ROOT_URLCONF": __name__}
ROWS = b"".join(b"%d\r\n" % n for n in range(5))
VARIABLE: ContextVar[str] = ContextVar("VARIABLE")


def export(request: HttpRequest) -> StreamingHttpResponse:
    def rows() -> Iterator[str]:
        yield ""
        if "hold" in request.GET:
            Gate.wait()
        if "broken" in request.GET:
            raise ValueError("on purpose")
        for n in range(5):
            yield f"{n}\r\n"

    kind = request.GET.get("type", "text/csv")
    return StreamingHttpResponse(rows(), content_type=kind, status=201)


async def export_async(request: HttpRequest) -> StreamingHttpResponse:
    async def rows() -> AsyncIterator[str]:
        task, token = asyncio.current_task(), VARIABLE.set("here")
        try:
            yield ""
            if "hold" in request.GET:
                Gate.reached.set()
                await Gate.wait_async()
            if "broken" in request.GET:
                raise ValueError("on purpose")
            for n in range(5):
                yield f"{n}\r\n"
                assert asyncio.current_task() is task
        finally:
            VARIABLE.reset(token)  # raises in another context
            Gate.seen["ended"] = True

    kind = request.GET.get("type", "text/csv")
    return StreamingHttpResponse(rows(), content_type=kind, status=201)


urlpatterns = [path("export", export), path("export/async", export_async)]

# Under ASGI, what an async view streams within a sync chain is for the event loop alone.
STREAMS = [
    *((way, "/export") for way in ("wsgi", "asgi", "asgi, sync outside", "asgi, sync around")),
    *((way, "/export/async") for way in ("wsgi", "asgi", "asgi, sync outside")),
]
CONSUMED = "ignore:StreamingHttpResponse must consume:Warning"
pytestmark = pytest.mark.filterwarnings(CONSUMED)


def _query(way: str, query: str) -> dict[str, Any]:
    return {"QUERY_STRING": query} if way == "wsgi" else {"query_string": query.encode()}


@pytest.mark.parametrize(("way", "path"), STREAMS)
def test_a_stream_whose_first_piece_is_late_is_deferred_and_ends_as_it_would(
    way: str, path: str
) -> None:
    with serving(way, settings=SETTINGS) as site:
        accepted = site.accepted(path, **_query(way, "hold=1"))
        Gate.opened.set()
        answer = site.follow(accepted)
        assert (answer.status, answer.content) == (201, ROWS)


@pytest.mark.parametrize(("way", "path"), STREAMS)
def test_a_stream_in_time_is_the_same_as_without(way: str, path: str) -> None:
    answers = []
    for bare in (True, False):
        with serving(way, settings=SETTINGS, bare=bare, BUDGET=LONG) as site:
            answers.append(site.call(path))
    assert [(it.status, it.content) for it in answers] == [(201, ROWS)] * 2
    assert answers[0].headers == answers[1].headers


# Django leaves the request's body open then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("way", "path"), STREAMS)
def test_what_is_raised_in_place_of_the_first_piece_breaks_off_as_without(
    way: str, path: str
) -> None:
    errors = []
    for bare in (True, False):
        with serving(way, settings=SETTINGS, bare=bare, BUDGET=LONG) as site:
            answer = site._context.run(site._call, path, "GET", (), b"", **_query(way, "broken=1"))
            errors.append((type(answer.error), answer.content))
    assert errors[0] == errors[1] == (ValueError, b"")
    del answer
    gc.collect()


def test_events_have_begun_when_the_view_returns() -> None:
    """Their client waits for the header fields, not for the first event."""
    with serving("asgi", settings=SETTINGS) as site:
        assert site.loop is not None
        calls: list[asgi.Call] = []

        async def run() -> None:
            query = _query("asgi", "hold=1&type=text/event-stream")
            calls.append(asgi.Call(site.handler, asgi.http_scope("/export/async", **query)))
            await calls[0].run()

        thread = threading.Thread(target=site.loop.run, args=(run(),))
        thread.start()
        until(Gate.reached.is_set)
        assert calls[0].status == 201
        Gate.opened.set()
        thread.join(PATIENT)
        assert calls[0].content == ROWS


def test_a_stream_whose_client_leaves_is_ended_with_it() -> None:
    with serving("asgi", settings=SETTINGS, BUDGET=LONG) as site:
        assert site.loop is not None
        calls: list[asgi.Call] = []

        async def run() -> None:
            query = _query("asgi", "hold=1")
            calls.append(asgi.Call(site.handler, asgi.http_scope("/export/async", **query)))
            await calls[0].run()

        thread = threading.Thread(target=site.loop.run, args=(run(),))
        thread.start()
        until(Gate.reached.is_set)
        site.loop.call(calls[0].leave)
        until(lambda: "ended" in Gate.seen)
        thread.join(PATIENT)
