"""Views that workers run: left when they are called, or never called, in each kind of chain."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator"

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from raincheck import is_rerun, long_running
from raincheck.engine.queues import Take, queues_here
from raincheck.handler import Marking
from raincheck.stores.memory import MemoryStore
from tests.django.site import LONG, WAYS, Site, path_of, serving, until
from tests.django.test_users import KNOWN, SETTINGS, logged_in
from tests.support.workers import is_worker

BODY = b"a=1&b=" + b"x" * 100_000
TYPE = (b"content-type", b"application/x-www-form-urlencoded")


class Seen:
    """What views and middleware have noted."""

    runs: ClassVar[list[str]] = []
    statuses: ClassVar[list[int]] = []
    told: ClassVar[list[str]] = []
    is_broken = False


def tell(operation_id: str) -> None:
    if Seen.is_broken:
        raise ConnectionError("no broker")
    Seen.told.append(operation_id)


def inner(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Note what the view's response looks like from within."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        Seen.statuses.append(response.status_code)
        return response

    return middleware


def _answer(request: HttpRequest) -> HttpResponse:
    Seen.runs.append("worker" if is_worker() else "web")
    user = str(request.user.pk)
    document = {"user": user, "b": len(request.POST["b"]), "again": is_rerun()}
    return JsonResponse(document, status=201, headers={"X-Own": "1"})


@csrf_exempt
@long_running(runner="workers")
def sync_view(request: HttpRequest) -> HttpResponse:
    return _answer(request)


@csrf_exempt
@long_running(runner="workers")
async def async_view(request: HttpRequest) -> HttpResponse:
    return _answer(request)


class Report(View):
    @long_running(runner="workers")
    def post(self, request: HttpRequest) -> HttpResponse:
        return _answer(request)


@csrf_exempt
def by_path(request: HttpRequest) -> HttpResponse:
    return _answer(request)


urlpatterns = [
    path("sync", sync_view),
    path("async", async_view),
    path("class", csrf_exempt(Report.as_view())),
    path("by-path", by_path),
]
VIEWS = ["/sync", "/async", "/class"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raincheck.handler.marking._known_markings", {Marking(queue="workers")})
    monkeypatch.setattr(Seen, "is_broken", False)
    for noted in (Seen.runs, Seen.statuses, Seen.told):
        noted.clear()


@contextmanager
def shop(way: str, **more: Any) -> Iterator[tuple[Site, Callable[[Any], Any]]]:
    """Serve, and yield what has a worker run an operation, and returns its R then."""
    store = MemoryStore()
    settings = {**SETTINGS, "ROOT_URLCONF": __name__}
    options: dict[str, Any] = {"STORE": store, "BUDGET": LONG, "OWNER": None}
    options |= {"WORKERS": {"workers": f"{__name__}.tell"}, "RUNNERS": {"/by-path": "workers"}}
    within = [f"{__name__}.inner"]
    with serving(way, around=KNOWN, within=within, settings=settings, **options | more) as site:

        def finish(accepted: Any) -> Any:
            operation_id = path_of(accepted).rpartition("/")[2]
            [queues] = [
                each for each in queues_here() if each._store is store and each.rerunner is not None
            ]
            with is_worker.set():
                assert queues.take(operation_id) is Take.BEGUN
                queues.running.wait_for(operation_id, 30)
            return site.call(path_of(accepted), headers=logged_in(7))

        yield site, finish


@pytest.mark.parametrize("view", [*VIEWS, "/by-path"])
def test_a_view_that_workers_run_does_not_run_in_the_process_that_is_asked(
    way: str, view: str, caplog: pytest.LogCaptureFixture
) -> None:
    with shop(way) as (site, finish):
        accepted = site.accepted(view, "POST", [*logged_in(7), TYPE], BODY)
        assert (Seen.runs, Seen.told) == ([], [path_of(accepted).rpartition("/")[2]])
        until(lambda: Seen.statuses == ([202] if view in VIEWS else []))
        done = finish(accepted)
    assert (done.status, Seen.runs) == (201, ["worker"])
    assert done.content == b'{"user": "7", "b": 100000, "again": false}'
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("view", ["/sync", "/by-path"])
def test_when_workers_cant_be_told_the_client_is_and_nothing_has_run(way: str, view: str) -> None:
    Seen.is_broken = True
    with shop(way) as (site, _):
        refused = site.call(view, "POST", [*logged_in(7), TYPE], BODY)
    assert (refused.status, Seen.runs) == (503, [])


def test_a_view_whose_request_was_accepted_before_is_left_to_workers(way: str) -> None:
    with shop(way, BUDGET=0) as (site, finish):
        accepted = site.accepted("/sync", "POST", [*logged_in(7), TYPE], BODY)
        until(lambda: bool(Seen.told))
        done = finish(accepted)
    assert (done.status, Seen.runs) == (201, ["worker"])
    assert b'"again": false' in done.content
