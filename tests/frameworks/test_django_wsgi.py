"""Marked views in Django under WSGI: functions, classes, decorators, async and streaming ones."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator, no-any-unimported"

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from raincheck import long_running
from tests.frameworks.django_project import (
    DEFERRING,
    Bench,
    MarkedDjangoViews,
    deferring,
    served,
)
from tests.frameworks.session import Paths, Session, document
from tests.frameworks.work import MADE_BY, Work
from tests.frameworks.wsgi_checks import GUNICORN, check_on_a_wsgi_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def _made(text: str) -> HttpResponse:
    return HttpResponse(text, status=201, headers={MADE_BY: "hand"})


def _in_thread(request: HttpRequest) -> HttpResponse:
    return _made(Bench.work.in_thread(str(json.loads(request.body)["order"])))


async def _on_loop(request: HttpRequest) -> HttpResponse:
    return _made(await Bench.work.on_loop(str(json.loads(request.body)["order"])))


def with_badge(view: Any) -> Any:
    @functools.wraps(view)
    def checked(request: HttpRequest) -> HttpResponse:
        badge = request.headers.get("authorization")
        if badge != "good":
            return HttpResponse("not you", status=403 if badge else 401)
        return view(request)

    return checked


@csrf_exempt
@require_POST
@long_running
def below(request: HttpRequest) -> HttpResponse:
    return _in_thread(request)


@long_running
@csrf_exempt
@require_POST
def above(request: HttpRequest) -> HttpResponse:
    return _in_thread(request)


@csrf_exempt
@require_POST
@long_running
async def on_loop(request: HttpRequest) -> HttpResponse:
    return await _on_loop(request)


@csrf_exempt
@long_running
def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        for word in Bench.work.in_thread(str(json.loads(request.body)["order"])).split():
            yield f"{word} {request.path}\n"

    return StreamingHttpResponse(parts(), status=201, headers={MADE_BY: "hand"})


@csrf_exempt
@with_badge
@long_running
def guarded(request: HttpRequest) -> HttpResponse:
    return _in_thread(request)


@csrf_exempt
@require_GET
@long_running
def only_read(request: HttpRequest) -> HttpResponse:
    return _in_thread(request)


@long_running
def protected(request: HttpRequest) -> HttpResponse:
    return _in_thread(request)


@csrf_exempt
def unmarked(request: HttpRequest) -> HttpResponse:
    return _in_thread(request)


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain")


class SyncMethod(View):
    @long_running
    def post(self, request: HttpRequest) -> HttpResponse:
        return _in_thread(request)


class AsyncMethod(View):
    @long_running
    async def post(self, request: HttpRequest) -> HttpResponse:
        return await _on_loop(request)


@method_decorator(long_running, name="post")
class SyncDecorated(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return _in_thread(request)


class AsyncDecorated(View):
    @method_decorator(long_running)
    async def post(self, request: HttpRequest) -> HttpResponse:
        return await _on_loop(request)


@method_decorator([csrf_exempt, long_running], name="dispatch")
class Dispatching(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return _in_thread(request)


class AsyncView(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return await _on_loop(request)


urlpatterns = [
    path("below", below),
    path("above", above),
    path("async", on_loop),
    path("stream", stream),
    path("guarded", guarded),
    path("only/read", only_read),
    path("protected", protected),
    path("unmarked", unmarked),
    path("plain", require_GET(plain)),
    path("method/sync", csrf_exempt(SyncMethod.as_view())),
    path("method/async", csrf_exempt(AsyncMethod.as_view())),
    path("decorated/sync", csrf_exempt(SyncDecorated.as_view())),
    path("decorated/async", csrf_exempt(AsyncDecorated.as_view())),
    path("dispatching", Dispatching.as_view()),
    path("view/async", csrf_exempt(long_running(AsyncView.as_view()))),
]


def serve() -> WSGIApplication:
    """Return the application for a real server."""
    return served(__name__)


class TestDjango(MarkedDjangoViews):
    urls = __name__
    on_loop: ClassVar[Paths] = ("/async", "/method/async", "/decorated/async", "/view/async")
    in_thread: ClassVar[Paths] = (
        "/below",
        "/above",
        "/method/sync",
        "/decorated/sync",
        "/dispatching",
        "/stream",
    )
    refused = (
        ("/guarded", {}, document(order="tea"), 401),
        ("/guarded", {"authorization": "forged"}, document(order="tea"), 403),
        ("/protected", {}, document(order="tea"), 403),
        ("/only/read", {}, document(order="tea"), 405),
        ("/nowhere", {}, document(order="tea"), 404),
    )


class TestTheMiddlewareOfTheProject(TestDjango):
    """In place of what is around the project."""

    on_loop: ClassVar[Paths] = ("/async", "/view/async")
    in_thread: ClassVar[Paths] = ("/below", "/above", "/method/sync", "/stream")
    around = ("in", "work", "out")  # the end of the request is signalled for the 202 too

    def deferring(self, **options: Any) -> AbstractAsyncContextManager[Session]:
        return deferring(Work(), DEFERRING, *self.middleware, **options)


@pytest.mark.slow
@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_wsgi_server(GUNICORN, __name__, ("/below", "/async", "/method/sync"))
