"""A project for real servers, on PostgreSQL; the environment says how it is set up."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator"

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from raincheck import long_running

TABLE = os.environ.get("TABLE", "raincheck_django")
CHOSEN: dict[str, Any] = json.loads(os.environ.get("PROJECT", "{}"))


def _database(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "HOST": parts.hostname,
        "PORT": parts.port,
        "USER": parts.username,
        "PASSWORD": parts.password or "",
        "OPTIONS": {"application_name": TABLE},
        **CHOSEN.get("database", {}),
    }


if not settings.configured:  # in a server
    settings.configure(
        SECRET_KEY="for tests",  # noqa: S106
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["127.0.0.1"],
        DATABASES={"default": _database(os.environ["DATABASE_URL"])},
        MIDDLEWARE=[
            *CHOSEN.get("around", ()),
            "raincheck.django.RaincheckMiddleware",
            *CHOSEN.get("within", ()),
        ],
        RAINCHECK=CHOSEN.get("raincheck", {}),
    )
    django.setup(set_prefix=False)


def _execute(statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def asking_around(get_response: Any) -> Any:
    """Be a middleware that uses the database before and after the rest."""

    def middleware(request: HttpRequest) -> HttpResponse:
        _execute("SELECT 1")
        response = get_response(request)
        _execute("SELECT 1")
        return response

    return middleware


def _insert(request: HttpRequest) -> None:
    _execute(f"INSERT INTO {TABLE} VALUES (%s)", request.GET["note"])  # noqa: S608


def insert(request: HttpRequest) -> HttpResponse:
    """Write a row, then wait for whoever holds the lock."""
    _insert(request)
    _execute("SELECT pg_advisory_lock_shared(%s)", int(request.GET["lock"]))
    _execute("SELECT pg_advisory_unlock_shared(%s)", int(request.GET["lock"]))
    if "fail" in request.GET:
        raise ValueError("on purpose")
    return HttpResponse("written")


def ask(request: HttpRequest) -> HttpResponse:
    _execute("SELECT 1")
    return HttpResponse("asked")


async def ask_async(request: HttpRequest) -> HttpResponse:
    await sync_to_async(_execute)("SELECT 1")
    return HttpResponse("asked")


@long_running
def ask_marked(request: HttpRequest) -> HttpResponse:
    return ask(request)


def ask_slowly(request: HttpRequest) -> HttpResponse:
    _execute("SELECT pg_sleep(0.2)")
    return HttpResponse("asked")


def _select(last: int) -> Any:
    cursor = connection.chunked_cursor()  # as `QuerySet.iterator` does: the rows stay there
    cursor.execute("SELECT n FROM generate_series(1, %s) AS n", (last,))
    return cursor


def rows(request: HttpRequest) -> StreamingHttpResponse:
    """Stream what a cursor gives that was opened before."""
    cursor = _select(2000)

    def chunks() -> Iterator[str]:
        with cursor:
            while some := cursor.fetchmany(100):
                yield "".join(f"{row[0]}\n" for row in some)

    return StreamingHttpResponse(chunks())


async def rows_async(request: HttpRequest) -> StreamingHttpResponse:
    cursor = await sync_to_async(_select)(200)

    async def chunks() -> AsyncIterator[str]:
        while row := await sync_to_async(cursor.fetchone)():
            yield f"{row[0]}\n"
        await sync_to_async(cursor.close)()

    return StreamingHttpResponse(chunks())


def sleep(request: HttpRequest) -> HttpResponse:
    time.sleep(float(request.GET["seconds"]))
    return HttpResponse("slept")


async def sleep_async(request: HttpRequest) -> HttpResponse:
    import asyncio

    await asyncio.sleep(float(request.GET["seconds"]))
    return HttpResponse("slept")


urlpatterns = [
    path("insert", insert),
    path("ask", ask),
    path("ask/async", ask_async),
    path("ask/marked", ask_marked),
    path("ask/slowly", ask_slowly),
    path("rows", rows),
    path("rows/async", rows_async),
    path("sleep", sleep),
    path("sleep/async", sleep_async),
]

if __name__ == settings.ROOT_URLCONF:
    from raincheck.django import with_drain

    wsgi = get_wsgi_application()
    asgi = get_asgi_application()
    drained = with_drain(asgi)
