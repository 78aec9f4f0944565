"""Marked views in Django under ASGI: functions, classes, decorators; under sync middleware."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator"

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, ClassVar, cast

import pytest
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from starlette.types import ASGIApp

from raincheck import long_running
from tests.frameworks.checks import MarkedHandlers, Released, check_on_a_server
from tests.frameworks.session import Paths, document
from tests.frameworks.work import MADE_BY, Work
from tests.support.django_settings import configure

CSRF = "django.middleware.csrf.CsrfViewMiddleware"  # works in both worlds
SYNC = f"{__name__}.sync_middleware"
Answer = Callable[[HttpRequest], HttpResponse]

configure()


class Bench:
    """Where views, which live at module level, find the work of the test that runs."""

    work: Work


def sync_middleware(get_response: Answer) -> Answer:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers["x-seen"] = "yes"
        return response

    return middleware


def _made(text: str) -> HttpResponse:
    return HttpResponse(text, status=201, headers={MADE_BY: "hand"})


def _order(request: HttpRequest) -> str:
    return str(json.loads(request.body)["order"])


def with_badge(view: Any) -> Any:
    @functools.wraps(view)
    async def checked(request: HttpRequest) -> HttpResponse:
        badge = request.headers.get("authorization")
        if badge != "good":
            return HttpResponse("not you", status=403 if badge else 401)
        return await view(request)

    return checked


@csrf_exempt
@require_POST
@long_running
async def on_loop(request: HttpRequest) -> HttpResponse:
    return _made(await Bench.work.on_loop(_order(request)))


@csrf_exempt
@require_POST
@long_running
def in_thread(request: HttpRequest) -> HttpResponse:
    return _made(Bench.work.in_thread(_order(request)))


@long_running
@csrf_exempt
async def above(request: HttpRequest) -> HttpResponse:
    return _made(await Bench.work.on_loop(_order(request)))


@csrf_exempt
@with_badge
@long_running
async def guarded(request: HttpRequest) -> HttpResponse:
    return _made(await Bench.work.on_loop(_order(request)))


@csrf_exempt
async def unmarked(request: HttpRequest) -> HttpResponse:
    return _made(await Bench.work.on_loop(_order(request)))


@long_running
async def protected(request: HttpRequest) -> HttpResponse:
    return _made(await Bench.work.on_loop(_order(request)))


async def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain")


class AsyncMethod(View):
    @long_running
    async def post(self, request: HttpRequest) -> HttpResponse:
        return _made(await Bench.work.on_loop(_order(request)))


class SyncMethod(View):
    @long_running
    def post(self, request: HttpRequest) -> HttpResponse:
        return _made(Bench.work.in_thread(_order(request)))


@method_decorator(long_running, name="post")
class AsyncDecorated(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return _made(await Bench.work.on_loop(_order(request)))


class SyncDecorated(View):
    @method_decorator(long_running)
    def post(self, request: HttpRequest) -> HttpResponse:
        return _made(Bench.work.in_thread(_order(request)))


class AsyncView(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return _made(await Bench.work.on_loop(_order(request)))


class SyncView(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return _made(Bench.work.in_thread(_order(request)))


urlpatterns = [
    path("async", on_loop),
    path("sync", in_thread),
    path("above", above),
    path("guarded", guarded),
    path("unmarked", unmarked),
    path("protected", protected),
    path("plain", plain),
    path("method/async", csrf_exempt(AsyncMethod.as_view())),
    path("method/sync", csrf_exempt(SyncMethod.as_view())),
    path("decorated/async", csrf_exempt(AsyncDecorated.as_view())),
    path("decorated/sync", csrf_exempt(SyncDecorated.as_view())),
    path("view/async", csrf_exempt(long_running(AsyncView.as_view()))),
    path("view/sync", csrf_exempt(long_running(SyncView.as_view()))),
]


def build(work: Work, middleware: tuple[str, ...]) -> ASGIApp:
    """Return the application behind these middlewares."""
    Bench.work = work
    with override_settings(MIDDLEWARE=middleware):
        return cast(ASGIApp, get_asgi_application())


def serve() -> ASGIApp:
    """Return the application for a real server."""
    return Released(build(work := Work(), (SYNC, CSRF)), work)


class TestDjango(MarkedHandlers):
    on_loop: ClassVar[Paths] = (
        "/async",
        "/above",
        "/method/async",
        "/decorated/async",
        "/view/async",
    )
    in_thread: ClassVar[Paths] = ("/sync", "/method/sync", "/decorated/sync", "/view/sync")
    refused = (
        ("/guarded", {}, document(order="tea"), 401),
        ("/guarded", {"authorization": "forged"}, document(order="tea"), 403),
        ("/protected", {}, document(order="tea"), 403),
    )
    middleware: ClassVar[Paths] = (CSRF,)

    def build(self, work: Work) -> ASGIApp:
        return build(work, self.middleware)


class TestBehindSyncMiddleware(TestDjango):
    middleware: ClassVar[Paths] = (SYNC, CSRF)


class TestBetweenSyncMiddlewares(TestDjango):
    on_loop: ClassVar[Paths] = ("/async", "/method/async")
    in_thread: ClassVar[Paths] = ("/sync", "/method/sync")
    middleware: ClassVar[Paths] = (SYNC, CSRF, SYNC)


@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_server(__name__, ("/async", "/sync", "/view/async"))
