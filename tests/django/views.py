"""The views that the tests call, and where they can hold them up."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator"

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import get_script_prefix, path
from django.utils import timezone, translation
from django.views import View
from django.views.decorators.http import require_POST

from raincheck import current_operation, long_running


class Gate:
    """Where views wait until a test lets them go on."""

    opened = threading.Event()
    reached = threading.Event()
    seen: ClassVar[dict[str, Any]] = {}

    @classmethod
    def reset(cls) -> None:
        cls.opened = threading.Event()
        cls.reached = threading.Event()
        cls.seen = {}

    @classmethod
    def wait(cls) -> None:
        cls.reached.set()
        assert cls.opened.wait(30), "nobody opened the gate"

    @classmethod
    async def wait_async(cls) -> None:
        while not cls.opened.is_set():  # noqa: ASYNC110 - a test's thread opens it
            await asyncio.sleep(0.002)


def _sum(data: bytes) -> HttpResponse:
    return HttpResponse(f"{len(data)} {hashlib.sha256(data).hexdigest()}", "text/plain")


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello", headers={"X-Made-By": "hand"})


async def hello_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello", headers={"X-Made-By": "hand"})


def held(request: HttpRequest) -> HttpResponse:
    Gate.wait()
    return HttpResponse("held", status=201)


async def held_async(request: HttpRequest) -> HttpResponse:
    await Gate.wait_async()
    return HttpResponse("held", status=201)


class Held(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return held(request)


class HeldAsync(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return await held_async(request)


def cookies(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("cookies")
    response.set_cookie("first", "1", httponly=True)
    response.set_cookie("second", "2", path="/x")
    response["Cache-Control"] = "max-age=3"
    response["Vary"] = "Accept"
    return response


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(str(n) * 50_000 for n in range(10))


async def stream_async(request: HttpRequest) -> StreamingHttpResponse:
    async def chunks() -> AsyncIterator[str]:
        for n in range(10):
            yield str(n) * 50_000
            await asyncio.sleep(0)

    return StreamingHttpResponse(chunks())


def dripping(request: HttpRequest) -> StreamingHttpResponse:
    def chunks() -> Iterator[str]:
        Gate.seen["calls"] = Gate.seen.get("calls", 0) + 1
        yield "first "
        Gate.wait()
        _break_off(request)
        yield "last"

    return _dripping(chunks())


async def dripping_async(request: HttpRequest) -> StreamingHttpResponse:
    async def chunks() -> AsyncIterator[str]:
        Gate.seen["calls"] = Gate.seen.get("calls", 0) + 1
        yield "first "
        await Gate.wait_async()
        _break_off(request)
        yield "last"

    return _dripping(chunks())


def _dripping(content: Any) -> StreamingHttpResponse:
    response = StreamingHttpResponse(content, status=201)
    response.set_cookie("first", "1")
    response._resource_closers.append(lambda: Gate.seen.update(closed=True))
    return response


def _break_off(request: HttpRequest) -> None:
    if "broken" in request.GET:
        raise ValueError("on purpose")


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(__file__).open("rb"), as_attachment=True, filename="vi\u00ebws.py")


def file_in_memory(request: HttpRequest) -> FileResponse:
    return FileResponse(io.BytesIO(b"x" * 100_000), filename="x.bin")


def template(request: HttpRequest) -> TemplateResponse:
    made = engines["django"].from_string("Hello {{ who }}")
    return TemplateResponse(request, made, {"who": "you"})


def raises(request: HttpRequest) -> HttpResponse:
    raise ValueError("on purpose")


async def raises_async(request: HttpRequest) -> HttpResponse:
    raise ValueError("on purpose")


def missing(request: HttpRequest) -> HttpResponse:
    raise Http404("no such thing")


def nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


def elsewhere(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/hello")


def own_202(request: HttpRequest) -> HttpResponse:
    return HttpResponse("later", status=202)


def as_json(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"\u00e9": ["\u2603"]})


@require_POST
def only_post(request: HttpRequest) -> HttpResponse:
    return HttpResponse("posted")


def body(request: HttpRequest) -> HttpResponse:
    if "hold" in request.GET:
        Gate.wait()
    return _sum(request.body)


async def body_async(request: HttpRequest) -> HttpResponse:
    if "hold" in request.GET:
        await Gate.wait_async()
    return _sum(request.body)


def read_in_pieces(request: HttpRequest) -> HttpResponse:
    if "hold" in request.GET:
        Gate.wait()
    data = b""
    while piece := request.read(7_000):
        data += piece
    return _sum(data)


def upload(request: HttpRequest) -> HttpResponse:
    uploaded = request.FILES["file"] if "early" in request.GET else None
    if "hold" in request.GET:
        Gate.wait()
    uploaded = uploaded or request.FILES["file"]
    Gate.seen["uploaded"] = uploaded
    return _sum(uploaded.read() + request.POST["more"].encode())


async def upload_async(request: HttpRequest) -> HttpResponse:
    uploaded = request.FILES["file"]
    if "hold" in request.GET:
        await Gate.wait_async()
    Gate.seen["uploaded"] = uploaded
    return _sum(uploaded.read() + request.POST["more"].encode())


@long_running
def marked(request: HttpRequest) -> HttpResponse:
    return HttpResponse("marked")


@long_running
async def marked_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse("marked")


@long_running
def cancelled(request: HttpRequest) -> HttpResponse:
    try:
        while not Gate.opened.wait(0.002):
            current_operation().raise_if_cancelled()
    finally:
        Gate.seen["ended"] = True
    return HttpResponse("not cancelled")


@long_running
async def cancelled_async(request: HttpRequest) -> HttpResponse:
    try:
        await Gate.wait_async()
    finally:
        Gate.seen["ended"] = True
    return HttpResponse("not cancelled")


def surroundings(request: HttpRequest) -> HttpResponse:
    if "hold" in request.GET:
        Gate.wait()
    return JsonResponse(
        {
            "language": translation.get_language(),
            "prefix": get_script_prefix(),
            "zone": timezone.get_current_timezone_name(),
        }
    )


async def surroundings_async(request: HttpRequest) -> HttpResponse:
    return await sync_to_async(surroundings)(request)


def speaks_german(request: HttpRequest) -> HttpResponse:
    translation.activate("de")
    return HttpResponse("Guten Tag")


def where(request: HttpRequest) -> HttpResponse:
    return HttpResponse(threading.current_thread().name)


@long_running
def where_marked(request: HttpRequest) -> HttpResponse:
    return HttpResponse(threading.current_thread().name)


def who(request: HttpRequest) -> HttpResponse:
    Gate.wait()
    return HttpResponse(f"for {request.user.pk}")


def session(request: HttpRequest) -> HttpResponse:
    request.session["before"] = "1"
    Gate.wait()
    request.session["after"] = "2"
    if "save" in request.GET:
        request.session.save()
    return HttpResponse(json.dumps(dict(request.session)))


def session_now(request: HttpRequest) -> HttpResponse:
    return HttpResponse(json.dumps(dict(request.session)))


class Closing:
    """Chunks with an end that has to be in the thread of the beginning."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()

    def chunks(self) -> Iterator[bytes]:
        try:
            for n in range(200):
                Gate.seen.setdefault("threads", set()).add(threading.current_thread().name)
                yield b"%d" % (n % 10) * 20_000
        finally:
            Gate.seen["closed in"] = threading.current_thread().name
            Gate.seen["made in"] = self.thread.name


def closing(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(Closing().chunks())


class Noted:
    """Chunks that note when they are made, and their end."""

    def __init__(self) -> None:
        self._log = Gate.seen["log"] = list[str]()
        self._numbers = iter(range(9))

    def __iter__(self) -> Noted:
        return self

    def __next__(self) -> bytes:
        number = next(self._numbers)
        self._log.append(f"made {number}")
        return b"%d" % number

    def close(self) -> None:
        self._log.append("closed")


def noted(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(Noted())


urlpatterns = [
    path("noted", noted),
    path("hello", hello),
    path("hello/async", hello_async),
    path("held", held),
    path("held/async", held_async),
    path("held/class", Held.as_view()),
    path("held/class/async", HeldAsync.as_view()),
    path("cookies", cookies),
    path("stream", stream),
    path("stream/async", stream_async),
    path("dripping", dripping),
    path("dripping/async", dripping_async),
    path("file", file),
    path("file/memory", file_in_memory),
    path("template", template),
    path("raises", raises),
    path("raises/async", raises_async),
    path("missing", missing),
    path("nothing", nothing),
    path("elsewhere", elsewhere),
    path("own202", own_202),
    path("json", as_json),
    path("post", only_post),
    path("body", body),
    path("body/async", body_async),
    path("pieces", read_in_pieces),
    path("upload", upload),
    path("upload/async", upload_async),
    path("marked", marked),
    path("marked/async", marked_async),
    path("cancelled", cancelled),
    path("cancelled/async", cancelled_async),
    path("surroundings", surroundings),
    path("surroundings/async", surroundings_async),
    path("german", speaks_german),
    path("where", where),
    path("where/marked", where_marked),
    path("who", who),
    path("session", session),
    path("session/now", session_now),
    path("closing", closing),
]
