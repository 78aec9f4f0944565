"""Marked operations in django-ninja: sync, async, behind authentication and validation.

The annotations are strings, which ninja evaluates in the globals of what it registers.
"""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator, no-any-unimported"

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path

from raincheck import long_running
from tests.frameworks.django_project import Bench, MarkedDjangoViews, served
from tests.frameworks.session import Paths, document
from tests.frameworks.work import MADE_BY, Trouble
from tests.frameworks.wsgi_checks import WAITRESS, check_on_a_wsgi_server

# The rest needs the settings, which `django_project` has made.
# isort: split
from ninja import NinjaAPI, Router, Schema
from ninja.errors import HttpError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class Order(Schema):
    order: str


class Made(Schema):
    made: str


def badge(request: HttpRequest) -> bool:
    found = request.headers.get("authorization")
    if found == "forged":
        raise HttpError(403, "not you")
    return bool(found == "good")


api = NinjaAPI(urls_namespace="wsgi", docs_url=None)
router = Router(auth=badge)


@api.exception_handler(Trouble)
def in_trouble(request: HttpRequest, error: Trouble) -> HttpResponse:
    return api.create_response(request, {"trouble": str(error)}, status=503)


@api.post("/sync", response={201: Made})
@long_running
def in_thread(request: HttpRequest, response: HttpResponse, order: Order) -> Made:
    response.headers[MADE_BY] = "hand"
    return Made(made=Bench.work.in_thread(order.order))


@api.post("/path/{number}", response={201: Made})
@long_running
def with_path(
    request: HttpRequest, response: HttpResponse, number: int, order: Order, size: int = 1
) -> Made:
    response.headers[MADE_BY] = "hand"
    return Made(made=f"{size * number} {Bench.work.in_thread(order.order)}")


@api.post("/response")
@long_running
def as_response(request: HttpRequest, order: Order) -> HttpResponse:
    text = Bench.work.in_thread(order.order)
    return HttpResponse(text, status=201, headers={MADE_BY: "hand"})


@api.post("/async", response={201: Made})
@long_running
async def on_loop(request: HttpRequest, response: HttpResponse, order: Order) -> Made:
    response.headers[MADE_BY] = "hand"
    return Made(made=await Bench.work.on_loop(order.order))


@router.post("/sync", response={201: Made})
@long_running
def guarded(request: HttpRequest, order: Order) -> Made:
    return Made(made=Bench.work.in_thread(order.order))


@router.post("/async", response={201: Made})
@long_running
async def guarded_async(request: HttpRequest, order: Order) -> Made:
    return Made(made=await Bench.work.on_loop(order.order))


@api.post("/guarded", auth=badge, response={201: Made})
@long_running
def guarded_alone(request: HttpRequest, order: Order) -> Made:
    return Made(made=Bench.work.in_thread(order.order))


@api.post("/unmarked", response={201: Made})
def unmarked(request: HttpRequest, order: Order) -> Made:
    return Made(made=Bench.work.in_thread(order.order))


@api.get("/plain")
def plain(request: HttpRequest) -> str:
    return "plain"


api.add_router("/router", router)
urlpatterns = [path("", api.urls)]


def serve() -> WSGIApplication:
    """Return the application for a real server."""
    return served(__name__)


class TestNinja(MarkedDjangoViews):
    urls = __name__
    on_loop: ClassVar[Paths] = ("/async",)
    in_thread: ClassVar[Paths] = ("/sync", "/path/2", "/response")
    refused = (
        ("/guarded", {}, document(order="tea"), 401),
        ("/router/sync", {}, document(order="tea"), 401),
        ("/router/async", {}, document(order="tea"), 401),
        ("/router/sync", {"authorization": "forged"}, document(order="tea"), 403),
        ("/router/async", {"authorization": "forged"}, document(order="tea"), 403),
        ("/router/sync", {"authorization": "good"}, document(disorder="tea"), 422),
        ("/router/async", {"authorization": "good"}, document(order=["tea"]), 422),
        ("/sync", {}, document(), 422),
        ("/path/two", {}, document(order="tea"), 422),
        ("/sync", {}, b"no JSON", 400),
        ("/plain", {}, b"", 405),
    )


@pytest.mark.slow
@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_wsgi_server(WAITRESS, __name__, ("/sync", "/async"))
