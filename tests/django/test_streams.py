"""Responses that have started stream through, also under a key."""

# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.django.site import LONG, PATIENT, SOON, Site, serving, until
from tests.django.test_bodies import _query
from tests.django.views import Gate
from tests.support import asgi, wsgi

KEY = [(b"idempotency-key", b"one")]


# In the others our chain is sync, and Django gathers what is to go from there into the event loop.
@pytest.fixture(params=["wsgi", "asgi", "asgi, sync outside"])
def way(request: pytest.FixtureRequest) -> str:
    """Run a test in every way in which Django streams a response."""
    return str(request.param)


def path_for(way: str) -> str:
    return "/dripping" if way == "wsgi" else "/dripping/async"


def streamed(site: Site, way: str, **more: Any) -> tuple[Any, threading.Thread]:
    """Have a client read a response until it has the beginning; it goes on in a thread."""
    path, loop, handler, calling = path_for(way), site.loop, site.handler, list[Any]()
    if loop is None:
        calling.append(wsgi.Call(handler, wsgi.environ_of(path, "POST", KEY, **more)))
        thread = threading.Thread(target=calling[0].run)
    else:

        async def run() -> None:
            calling.append(asgi.Call(handler, asgi.http_scope(path, "POST", KEY, **more)))
            await calling[0].run()

        thread = threading.Thread(target=loop.run, args=(run(),))
    thread.start()
    until(lambda: calling and calling[0].content == b"first ")
    return calling[0], thread


def repeated(site: Site, way: str, **more: Any) -> Any:
    """Send the request again until the first one has ended."""
    answers: list[Any] = []

    def is_over() -> bool:
        answers.append(site.call(path_for(way), "POST", headers=KEY, **more))
        return bool(answers[-1].status != 202)

    until(is_over)
    return answers[-1]


@pytest.mark.parametrize("budget", [LONG, SOON])
def test_a_response_that_has_started_streams_through_under_a_key_too(
    way: str, budget: float
) -> None:
    with serving(way, BUDGET=budget) as site:
        first, thread = streamed(site, way)
        if budget == SOON:
            threading.Event().wait(2 * SOON)
        Gate.opened.set()
        thread.join(PATIENT)
        assert (first.error, first.status, first.content) == (None, 201, b"first last")
        assert any(name.lower() == b"set-cookie" for name, _ in first.headers)
        again = repeated(site, way)
        assert (again.status, again.content) == (201, b"first last")
        assert not any(name.lower() == b"set-cookie" for name, _ in again.headers)
        until(lambda: "closed" in Gate.seen)
    assert Gate.seen["calls"] == 1


def test_a_client_that_leaves_its_stream_finds_all_of_it_under_its_key(way: str) -> None:
    with serving(way, BUDGET=LONG) as site:
        first, thread = streamed(site, way)
        if site.loop is None:
            first.result.close()
        else:
            site.loop.call(first.leave)
        Gate.opened.set()
        again = repeated(site, way)
        assert (again.status, again.content) == (201, b"first last")
        thread.join(PATIENT)
    assert Gate.seen["calls"] == 1


def test_a_stream_that_breaks_off_is_cut_and_its_operation_has_failed(way: str) -> None:
    with serving(way, BUDGET=LONG) as site:
        more = _query(way, "broken=1")
        first, thread = streamed(site, way, **more)
        Gate.opened.set()
        thread.join(PATIENT)
        assert (type(first.error), first.content) == (ValueError, b"first ")
        again = repeated(site, way, **more)
        assert (again.status, b'"exception"' in again.content) == (500, True)
    assert Gate.seen["calls"] == 1
