"""Requests that stay as they are and requests that are deferred, whichever way Django runs us."""

from __future__ import annotations

import json

import pytest

from tests.django.site import LONG, WAYS, field, path_of, serving, until
from tests.django.views import Gate

NO_PAGE = "raincheck"
ADDED = {
    *("operation-status", "operation-result-status", "content-length", "cache-control"),
    *("etag", "accept-ranges", "x-sync"),
}
KINDS = (
    *("/hello", "/hello/async", "/cookies", "/stream", "/stream/async", "/file", "/file/memory"),
    *("/template", "/raises", "/raises/async", "/missing", "/nothing", "/elsewhere", "/own202"),
    *("/json", "/post", "/no/such/view"),
)
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
SETTINGS = {"TEMPLATES": TEMPLATES}

# Django itself warns of a sync server that serves an async stream, and the other way round.
pytestmark = [
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume"),
    # The bytes of some responses are those of a page that Django has for developers.
]


def _fields(answer: object) -> list[tuple[str, bytes]]:
    return [(name.decode().lower(), value.strip()) for name, value in answer.headers]  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", KINDS)
def test_a_response_in_time_is_that_of_the_bare_project(way: str, path: str) -> None:
    with serving(way, bare=True, settings=SETTINGS) as site:
        bare = site.call(path)
    with serving(way, BUDGET=LONG, settings=SETTINGS) as site:
        wrapped = site.call(path)
    assert (wrapped.status, wrapped.headers) == (bare.status, bare.headers)
    assert wrapped.content == bare.content


@pytest.mark.parametrize("path", KINDS)
def test_a_deferred_response_comes_back_exactly(way: str, path: str) -> None:
    with serving(way, bare=True, settings=SETTINGS) as site:
        bare = site.call(path)
    with serving(way, BUDGET=0, settings=SETTINGS) as site:
        replayed = site.deferred(path)
    assert replayed.content == bare.content
    assert replayed.status == (200 if bare.status == 202 else bare.status)
    expected = [pair for pair in _fields(bare) if pair[0] not in ("set-cookie", "x-sync")]
    assert _fields(replayed)[: len(expected)] == expected
    assert {name for name, _ in _fields(replayed)[len(expected) :]} <= ADDED


def test_cookies_come_back_where_they_are_wanted(way: str) -> None:
    with serving(way, bare=True) as site:
        bare = site.call("/cookies")
    with serving(way, BUDGET=0, KEEP_COOKIES=True) as site:
        replayed = site.deferred("/cookies")
    cookies = [pair for pair in _fields(bare) if pair[0] == "set-cookie"]
    assert len(cookies) == 2
    assert [pair for pair in _fields(replayed) if pair[0] == "set-cookie"] == cookies
    assert not any(value.startswith(b" ") for _, value in replayed.headers)  # h11 refuses it


@pytest.mark.parametrize("path", ["/held", "/held/async", "/held/class", "/held/class/async"])
def test_a_view_that_exceeds_its_budget_is_deferred(way: str, path: str) -> None:
    with serving(way) as site:
        accepted = site.accepted(path)
        status = site.call(f"{path_of(accepted)}/status")
        assert json.loads(status.content)["status"] == "running"
        Gate.opened.set()
        answer = site.follow(accepted)
    assert (answer.status, answer.content) == (201, b"held")
    assert field(answer, "operation-status") == "succeeded"


@pytest.mark.parametrize("path", ["/marked", "/marked/async"])
def test_a_marked_view_is_deferred_whatever_its_budget(way: str, path: str) -> None:
    with serving(way, BUDGET=LONG) as site:
        assert site.deferred(path).content == b"marked"


# In a sync chain a thread waits for an async view, and no thread can be stopped.
CANCELLABLE = [(way, "/cancelled") for way in WAYS] + [
    (way, "/cancelled/async") for way in ("asgi", "asgi, sync outside")
]


@pytest.mark.parametrize(("way", "path"), CANCELLABLE)
def test_a_deferred_view_can_be_cancelled(way: str, path: str) -> None:
    with serving(way) as site:
        accepted = site.accepted(path)
        assert site.call(path_of(accepted), "DELETE").status == 202
        until(lambda: "ended" in Gate.seen)
        until(lambda: site.call(path_of(accepted)).status == 410)
        status = json.loads(site.call(f"{path_of(accepted)}/status").content)
    assert status["status"] == "canceled"


def test_the_500_of_a_view_that_raises_is_that_of_django(way: str) -> None:
    with serving(way, BUDGET=0) as site:
        answer = site.deferred("/raises")
    assert answer.status == 500
    assert b"Server Error (500)" in answer.content
    assert field(answer, "operation-status") == "failed"


def test_a_head_is_never_deferred(way: str) -> None:
    with serving(way, BUDGET=0) as site:
        answer = site.call("/hello", "HEAD")
    assert answer.status == 200
    assert field(answer, "location") is None


def test_polls_answer_head_and_refuse_other_methods(way: str) -> None:
    with serving(way, BUDGET=0) as site:
        accepted = site.accepted("/hello")
        site.follow(accepted)
        head = site.call(path_of(accepted), "HEAD")
        refused = site.call(path_of(accepted), "PUT")
    assert (head.status, head.content) == (200, b"")
    assert refused.status == 405
    assert field(refused, "allow") is not None


def test_a_preference_is_honoured_and_named(way: str) -> None:
    with serving(way, BUDGET=LONG, MODE="prefer") as site:
        unasked = site.call("/hello")
        accepted = site.accepted("/hello", headers=[(b"prefer", b"respond-async")])
        answer = site.follow(accepted)
        strict = [(b"prefer", b"respond-async, handling=strict")]
        refused = site.call("/hello", "HEAD", headers=strict)
    assert unasked.status == 200
    assert field(accepted, "preference-applied") == "respond-async"
    assert answer.content == b"hello"
    assert refused.status == 400


def test_an_id_that_nobody_was_given_is_not_found(way: str) -> None:
    with serving(way) as site:
        assert site.call(f"/operations/{'0' * 32}").status == 404
        assert site.call("/operations/no/such/resource").status == 404
