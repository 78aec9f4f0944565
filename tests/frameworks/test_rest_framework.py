"""Marked views in Django REST framework: functions, classes, viewsets, helpers of generic views."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator, no-any-unimported"

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from django.urls import include, path

from raincheck import long_running
from tests.frameworks.django_project import Bench, MarkedDjangoViews, served
from tests.frameworks.session import Paths, document
from tests.frameworks.work import MADE_BY
from tests.frameworks.wsgi_checks import GUNICORN, check_on_a_wsgi_server

# The rest needs the settings, which `django_project` has made.
# isort: split
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import (
    action,
    api_view,
    authentication_classes,
    permission_classes,
)
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.generics import CreateAPIView
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

JSON = {"content-type": "application/json"}


def _made(request: Request) -> Response:
    text = Bench.work.in_thread(request.data["order"])
    return Response({"made": text}, 201, headers={MADE_BY: "hand"})


class Badges(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[str, None] | None:
        badge = request.headers.get("authorization")
        if badge == "forged":
            raise AuthenticationFailed("not a badge of ours")
        return (badge, None) if badge else None

    def authenticate_header(self, request: Request) -> str:
        return "Badge"


class IsGood(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user == "good")


class Order(serializers.Serializer):
    order = serializers.CharField()


@api_view(["POST"])
@long_running
def function(request: Request) -> Response:
    return _made(request)


@api_view(["POST"])
@authentication_classes([Badges])
@permission_classes([IsGood])
@long_running
def guarded(request: Request) -> Response:
    return _made(request)


@api_view(["POST"])
@long_running
@authentication_classes([Badges])
@permission_classes([IsGood])
def guarded_below(request: Request) -> Response:
    return _made(request)


@long_running
@api_view(["POST"])
@authentication_classes([Badges])
@permission_classes([IsGood])
def outside(request: Request) -> Response:
    return _made(request)


@api_view(["POST"])
def unmarked(request: Request) -> Response:
    return _made(request)


@api_view(["GET"])
def plain(request: Request) -> Response:
    return Response({"made": "nothing"})


class Classed(APIView):
    @long_running
    def post(self, request: Request) -> Response:
        return _made(request)


class GuardedClass(Classed):
    authentication_classes: ClassVar[Any] = [Badges]
    permission_classes: ClassVar[Any] = [IsGood]


class Orders(ViewSet):
    @long_running
    def create(self, request: Request) -> Response:
        return _made(request)

    def list(self, request: Request) -> Response:
        return Response([])

    @action(detail=True, methods=["post"])
    @long_running
    def export(self, request: Request, pk: str) -> Response:
        return _made(request)


class GuardedOrders(Orders):
    authentication_classes: ClassVar[Any] = [Badges]
    permission_classes: ClassVar[Any] = [IsGood]


class Created(CreateAPIView):
    """Marks what is called after validation."""

    serializer_class = Order

    @long_running
    def perform_create(self, serializer: Order) -> None:
        Bench.work.in_thread(serializer.validated_data["order"])

    def get_success_headers(self, data: Any) -> dict[str, str]:
        return {MADE_BY: "hand"}


router = SimpleRouter()
router.register("orders", Orders, basename="order")
router.register("others", GuardedOrders, basename="other")

urlpatterns = [
    path("function", function),
    path("guarded", guarded),
    path("guarded/below", guarded_below),
    path("guarded/class", GuardedClass.as_view()),
    path("outside", outside),
    path("unmarked", unmarked),
    path("plain", plain),
    path("class", Classed.as_view()),
    path("created", Created.as_view()),
    path("", include(router.urls)),
]

GUARDED = ("/guarded", "/guarded/below", "/guarded/class", "/others/", "/others/1/export/")


def serve() -> WSGIApplication:
    """Return the application for a real server."""
    return served(__name__)


class TestRestFramework(MarkedDjangoViews):
    urls = __name__
    on_loop: ClassVar[Paths] = ()
    in_thread: ClassVar[Paths] = (
        "/function",
        "/class",
        "/created",
        "/orders/",
        "/orders/1/export/",
    )
    refused = (
        *((path, JSON, document(order="tea"), 401) for path in GUARDED),
        *((path, {"authorization": "bad", **JSON}, b"{}", 403) for path in GUARDED),
        ("/function", {"authorization": "Basic forged", **JSON}, document(order="tea"), 403),
        ("/created", JSON, document(disorder="tea"), 400),
        ("/orders/", {"authorization": "Basic forged", **JSON}, b"no JSON", 403),
        ("/created", {"content-type": "text/plain"}, b"tea", 415),
        ("/plain", JSON, b"", 405),
    )

    async def test_a_mark_outside_of_api_view_comes_before_authentication(self) -> None:
        """What the README and `raincheck check` warn of."""
        async with self.deferring() as session:
            response = await session.post("/outside")
            assert response.status_code == 202
            assert (await session.result(response)).status_code == 401
            assert not session.work.started.is_set()

    @pytest.mark.parametrize("path", GUARDED)
    async def test_who_may_is_deferred(self, path: str) -> None:
        async with self.deferring() as session:
            accepted = await session.start(path, authorization="good")
            session.work.release()
            assert (await session.result(accepted)).status_code == 201

    async def test_of_a_viewset_only_the_marked_actions_are_deferred(self) -> None:
        async with self.deferring() as session:
            response = await session.client.get("/orders/")
            assert (response.status_code, response.json()) == (200, [])


@pytest.mark.slow
@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_wsgi_server(GUNICORN, __name__, ("/function", "/orders/"))
