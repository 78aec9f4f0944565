"""A request that is run again goes through the whole project, the outermost middleware first."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator"

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import RequestFactory
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from raincheck import is_rerun
from raincheck.engine import heartbeat
from raincheck.engine.repository import Repository
from raincheck.operations.transitions import Released
from raincheck.stores.memory import MemoryStore
from tests.django.site import Site, field, path_of, serving, until
from tests.django.test_users import KNOWN, SETTINGS, logged_in
from tests.django.views import Gate

OUTER = f"{__name__}.outer"
FAST = 0.02  # seconds between what the heartbeat does here


class Seen:
    """What happened around raincheck's middleware."""

    statuses: ClassVar[list[int]] = []
    is_refusing = False
    is_asking = False  # the project itself, before anything is let in
    told = b""  # then
    taken_apart = threading.Event()  # an upload that is run again


def outer(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Be a middleware around raincheck that may refuse requests."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if Seen.is_refusing and not request.path.startswith("/operations/"):
            return HttpResponse("not today", status=403)
        if Seen.is_asking and is_rerun():
            Seen.told = get_response(RequestFactory().get("/token")).content
        request.let_in = True
        response = get_response(request)
        if is_rerun() and request.path == "/upload":
            assert Seen.taken_apart.wait(30)
        Seen.statuses.append(response.status_code)
        return response

    return middleware


@csrf_exempt
def tell(request: HttpRequest) -> HttpResponse:
    """Tell what is known of the request; the first time, when the gate is open."""
    body = request.body  # after which Django has closed where it was
    if not is_rerun():
        Gate.wait()
    told = {
        "again": is_rerun(),
        "user": str(request.user.pk) if hasattr(request, "user") else None,
        "let in": hasattr(request, "let_in"),
        "path": request.path,
        "host": request.get_host(),
        "query": dict(request.GET.lists()),
        "body": hashlib.sha256(body).hexdigest(),
        "type": request.content_type,
        "cookies": dict(request.COOKIES),
    }
    return JsonResponse(told)


def token(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a token")


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    """Tell of an uploaded file, taken apart before the gate is open."""
    [file] = request.FILES.values()
    if is_rerun():
        Seen.taken_apart.set()
        until(lambda: len(Seen.statuses) > 1)  # Django has closed what it closes by then
    else:
        Gate.wait()
    return JsonResponse({"again": is_rerun(), "file": [file.name, len(file.read())]})


urlpatterns = [path("tell/é你", tell), path("upload", upload), path("token", token)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", FAST)
    monkeypatch.setattr(heartbeat, "RECOVER", FAST)
    monkeypatch.setattr(Seen, "is_refusing", False)
    monkeypatch.setattr(Seen, "is_asking", False)
    monkeypatch.setattr(Seen, "told", b"")
    Seen.statuses.clear()
    Seen.taken_apart.clear()


@contextmanager
def losing(way: str, **more: Any) -> Iterator[tuple[Site, Callable[[Any], Any]]]:
    """Serve, and yield what loses an operation and returns its R when it was run again."""
    store = MemoryStore()
    settings = {**SETTINGS, "ROOT_URLCONF": __name__, "DATA_UPLOAD_MAX_MEMORY_SIZE": None}
    around = [*KNOWN, OUTER]
    options: dict[str, Any] = {"STORE": store, "RETRY": {"/**": True}} | more
    with serving(way, around=around, settings=settings, **options) as site:

        def lose(accepted: Any, headers: Any = ()) -> Any:
            operation_id = path_of(accepted).rpartition("/")[2]
            assert Repository(store).change(operation_id, Released()) is not None
            Gate.opened.set()
            return site.follow(accepted, headers)

        yield site, lose


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_the_view_sees_the_same_request_and_user(way: str, size: int) -> None:
    body, user = b"x" * size, logged_in(7)
    headers = [*user, (b"content-type", b"x/y")]
    with losing(way, OWNER=None) as (site, lose):
        method = "POST" if size else "GET"
        again = lose(site.accepted("/tell/é你", method, headers, body))
        statuses = list(Seen.statuses)
    assert again.status == 200
    name, _, value = user[0][1].decode().partition("=")
    assert json.loads(again.content) == {
        "again": True,
        "user": "7",
        "let in": True,
        "path": "/tell/é你",
        "host": "testserver",
        "query": {},
        "body": hashlib.sha256(body).hexdigest(),
        "type": "x/y",
        "cookies": {name: value},
    }
    assert statuses.count(202) >= 2, "what is around is told 202 both times"


def test_what_middleware_around_refuses_the_second_time_is_the_response(way: str) -> None:
    with losing(way) as (site, lose):
        accepted = site.accepted("/tell/é你")
        Seen.is_refusing = True  # but for polls
        answer = lose(accepted)
    assert (answer.status, answer.content) == (403, b"not today")
    assert field(answer, "operation-status") == "failed"


def test_a_request_of_middleware_around_is_not_taken_for_the_one_that_is_run_again(
    way: str,
) -> None:
    with losing(way) as (site, lose):
        accepted = site.accepted("/tell/é你")
        Seen.is_asking = True
        answer = lose(accepted)
    assert (answer.status, Seen.told) == (200, b"a token")
    assert json.loads(answer.content)["path"] == "/tell/é你"


def test_an_upload_that_the_view_has_taken_apart_is_captured_all_the_same(way: str) -> None:
    data = b"z" * 2_000_000
    body = (
        b'--edge\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\n\r\n'
        + data
        + b"\r\n--edge--\r\n"
    )
    headers = [(b"content-type", b"multipart/form-data; boundary=edge")]
    with losing(way) as (site, lose):
        again = lose(site.accepted("/upload", "POST", headers, body))
    assert json.loads(again.content) == {"again": True, "file": ["a.bin", len(data)]}
