"""The application's views in Django: async or sync, as the settings say."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from raincheck import long_running
from tests.gateways.applications.handlers import (
    Answer,
    Asked,
    Handler,
    in_thread,
    on_loop,
    on_loop_too,
    routes,
)


def _to_response(answer: Answer) -> Any:
    fields, status = dict(answer.fields), answer.status
    if isinstance(answer.body, bytes):
        response = HttpResponse(answer.body, status=status, headers=fields)
    else:
        chunks = on_loop_too(answer.body) if settings.ASYNC_VIEWS else answer.body
        response = StreamingHttpResponse(chunks, status=status, headers=fields)
    for name, value in answer.cookies:
        response.set_cookie(name, value)
    return response


def _view(handler: Handler) -> Callable[[HttpRequest], Any]:
    async def async_view(request: HttpRequest) -> Any:
        return _to_response(await on_loop(handler, Asked(request.GET.dict(), request.body)))

    def view(request: HttpRequest) -> Any:
        return _to_response(in_thread(handler, Asked(request.GET.dict(), request.body)))

    return async_view if settings.ASYNC_VIEWS else view


def _patterns() -> Any:
    for route, handler, methods, marked in routes():
        view = _view(handler)
        view = csrf_exempt(require_http_methods(methods)(long_running(view) if marked else view))
        yield path(route.removeprefix("/"), view)


urlpatterns = list(_patterns())
