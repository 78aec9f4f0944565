"""Views of Django that write into the database before they are left."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator, no-any-unimported"

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View

from raincheck.runners.leaving import django_response
from tests.runners.handing import BODY, Steps, handed_over
from tests.support.django_settings import configure

configure()

DATABASE = "leaving"
FAILED = "the handler has failed"
steps: Steps = []
atomic = transaction.atomic(DATABASE)
Function = Callable[..., Any]


class HandingOver:
    """Has what raincheck's middleware has for these requests."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        found: HttpResponse | None = django_response(error)
        return found


class Around:
    """Writes down the status that it sees; nobody wants it to see an exception."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        steps.append(f"middleware: {response.status_code}")
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        steps.append(f"middleware: {error}")
        return None


def write(text: str) -> None:
    """Leave a row that is there only if nothing rolls it back."""
    with connections[DATABASE].cursor() as cursor:
        cursor.execute("INSERT INTO rows VALUES (%s)", [text])


def writing(view: Function) -> Function:
    """Write before the view is called, in whatever transaction that is."""

    @functools.wraps(view)
    def write_first(*args: Any, **kwargs: Any) -> Any:
        write("before")
        return view(*args, **kwargs)

    return write_first


def body() -> HttpResponse:
    steps.append(BODY)
    return HttpResponse(BODY)


@handed_over
def marked(request: HttpRequest) -> HttpResponse:
    return body()


@handed_over
async def marked_on_loop(request: HttpRequest) -> HttpResponse:
    return body()


def _as_in_thread(request: HttpRequest) -> HttpResponse:
    response: HttpResponse = async_to_sync(marked_on_loop)(request)
    return response


async def async_with_transaction(request: HttpRequest) -> HttpResponse:
    """Have a transaction as async views have to: in a thread, with the handler within."""
    response: HttpResponse = await sync_to_async(atomic(writing(_as_in_thread)))(request)
    return response


class InClass(View):
    @method_decorator([atomic, writing])
    @handed_over
    def get(self, request: HttpRequest) -> HttpResponse:
        return body()


class AsyncInClass(View):
    @handed_over
    async def get(self, request: HttpRequest) -> HttpResponse:
        return body()


def handles(request: HttpRequest) -> HttpResponse:
    return HttpResponse("handled")


def fails(request: HttpRequest) -> HttpResponse:
    raise ValueError(FAILED)


def catches(request: HttpRequest) -> HttpResponse:
    """Catch all, as some decorators do."""
    try:
        response: HttpResponse = marked(request)
    except Exception as error:
        steps.append(f"caught: {error}")
        return HttpResponse("an error", status=500)
    return response


apart = transaction.non_atomic_requests(using=DATABASE)  # Django refuses async views otherwise
urlpatterns = [
    path("atomic-request", writing(marked)),
    path("atomic", apart(atomic(writing(marked)))),
    path("nested", writing(atomic(writing(atomic(writing(marked)))))),
    path("class", InClass.as_view()),
    path("async", apart(marked_on_loop)),
    path("async-class", apart(AsyncInClass.as_view())),
    path("async-atomic", apart(async_with_transaction)),
    path("not-atomic", apart(writing(marked))),
    path("marked", marked),
    path("fails", fails),
    path("catches", catches),
    path("commits", writing(handles)),
]
QUIET = [
    *("atomic-request", "atomic", "nested", "class", "async", "async-class", "async-atomic"),
]
