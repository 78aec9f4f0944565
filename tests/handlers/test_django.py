"""Marked views of Django, REST framework and django-ninja."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator"

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import include, path, re_path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import FormView

from raincheck import long_running
from raincheck.inspection import find_directory, marked_requests
from tests.handlers.checks import RAN, Case, FindsHandlers, environ
from tests.support.django_settings import configure

configure()

from django import forms  # noqa: E402 - needs the settings
from ninja import NinjaAPI  # noqa: E402
from rest_framework.decorators import action, api_view, permission_classes  # noqa: E402
from rest_framework.permissions import AllowAny  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.routers import SimpleRouter  # noqa: E402
from rest_framework.views import APIView  # noqa: E402
from rest_framework.viewsets import ViewSet  # noqa: E402


def ran(name: str) -> HttpResponse:
    RAN.append(name)
    return HttpResponse(name)


def noted(view: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return wrapper


def forgetful(view: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return wrapper


class ForgetfulObject:
    def __init__(self, view: Callable[..., Any]) -> None:
        self.view = view

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.view(*args, **kwargs)


def plain(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return ran("plain")


@long_running
def marked(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return ran("marked")


@long_running
async def in_loop(request: HttpRequest) -> HttpResponse:
    return ran("in_loop")


class ByMethod(View):
    @long_running
    def post(self, request: HttpRequest) -> HttpResponse:
        return ran("post")

    def get(self, request: HttpRequest) -> HttpResponse:
        return ran("get")


class AsyncMethod(View):
    @long_running
    async def post(self, request: HttpRequest) -> HttpResponse:
        return ran("post")


@method_decorator(long_running, name="post")
class Decorated(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return ran("post")

    def get(self, request: HttpRequest) -> HttpResponse:
        return ran("get")


@method_decorator(long_running, name="dispatch")
class Dispatching(ByMethod): ...


class Inheriting(ByMethod): ...


class Emptied(ByMethod):
    def post(self, request: HttpRequest) -> HttpResponse:
        return ran("post")


class NoForm(forms.Form): ...


class ByHelper(FormView):
    form_class = NoForm

    @long_running
    def form_valid(self, form: NoForm) -> HttpResponse:
        return ran("form_valid")

    def get(self, request: HttpRequest) -> HttpResponse:
        return ran("get")


@api_view(["GET", "POST"])
@long_running
def rest_function(request: Request) -> Response:
    RAN.append("rest_function")
    return Response()


@api_view(["POST"])
@permission_classes([AllowAny])
@long_running
def rest_permitted(request: Request) -> Response:
    RAN.append("rest_permitted")
    return Response()


@long_running
@api_view(["POST"])
def rest_outside(request: Request) -> Response:
    RAN.append("rest_outside")
    return Response()


@api_view(["POST"])
def rest_plain(request: Request) -> Response:
    RAN.append("rest_plain")
    return Response()


class RestView(APIView):
    @long_running
    def post(self, request: Request) -> Response:
        RAN.append("post")
        return Response()

    def put(self, request: Request) -> Response:
        RAN.append("put")
        return Response()


class RestSet(ViewSet):
    @long_running
    def create(self, request: Request) -> Response:
        RAN.append("create")
        return Response()

    def list(self, request: Request) -> Response:
        RAN.append("list")
        return Response()

    @action(detail=True, methods=["post"])
    @long_running
    def export(self, request: Request, pk: str) -> Response:
        RAN.append("export")
        return Response()

    @action(detail=True, methods=["post"])
    def copy(self, request: Request, pk: str) -> Response:
        RAN.append("copy")
        return Response()


class NamedSet(ViewSet):
    @long_running
    def start(self, request: Request) -> Response:
        RAN.append("start")
        return Response()

    def show(self, request: Request) -> Response:
        RAN.append("show")
        return Response()


router = SimpleRouter()
router.register("rests", RestSet, basename="rest")

api = NinjaAPI(urls_namespace="raincheck")


@api.post("/order/{number}")
@long_running
def ninja_marked(request: HttpRequest, number: int) -> str:
    RAN.append("ninja_marked")
    return "made"


@api.get("/order/{number}")
def ninja_plain(request: HttpRequest, number: int) -> str:
    RAN.append("ninja_plain")
    return "plain"


@api.post("/async")
@long_running
async def ninja_async(request: HttpRequest) -> str:
    RAN.append("ninja_async")
    return "made"


@long_running
@api.post("/above")
def ninja_above(request: HttpRequest) -> str:
    RAN.append("ninja_above")
    return "made"


urlpatterns = [
    path("plain/<int:number>", plain),
    path("marked/<int:number>", marked),
    path("bücher/<name>", marked),
    re_path(r"^regex/(?P<number>\d+)$", marked),
    path("partial", functools.partial(marked, number=1)),
    path("async", in_loop),
    path("noted", csrf_exempt(noted(marked))),
    path("forgetful", forgetful(marked)),
    path("object", ForgetfulObject(marked)),
    path("method", ByMethod.as_view()),
    path("method/async", AsyncMethod.as_view()),
    path("decorated", csrf_exempt(Decorated.as_view())),
    path("dispatching", Dispatching.as_view()),
    path("inheriting", Inheriting.as_view()),
    path("emptied", Emptied.as_view()),
    path("helper", ByHelper.as_view()),
    path("whole", long_running(Emptied.as_view())),
    path("included/", include([path("marked", marked), path("plain", plain)])),
    path("rest/function", rest_function),
    path("rest/permitted", rest_permitted),
    path("rest/outside", rest_outside),
    path("rest/plain", rest_plain),
    path("rest/view", RestView.as_view()),
    path("rest/named", NamedSet.as_view({"get": "show", "post": "start"})),
    path("rest/", include(router.urls)),
    path("ninja/", api.urls),
    *i18n_patterns(path("translated", marked)),
]

CASES = (
    Case("GET", "/plain/1", False),
    Case("POST", "/marked/1", True),
    Case("GET", "/marked/one", False),
    Case("GET", "/bücher/ä", True),
    Case("GET", "/regex/12", True),
    Case("GET", "/partial", True),
    Case("GET", "/async", True),
    Case("GET", "/noted", True),
    Case("GET", "/forgetful", True),
    Case("GET", "/object", True),
    Case("POST", "/method", True),
    Case("GET", "/method", False),
    Case("DELETE", "/method", False),
    Case("POST", "/method/async", True),
    Case("POST", "/decorated", True),
    Case("GET", "/decorated", False),
    Case("GET", "/dispatching", True),
    Case("POST", "/inheriting", True),
    Case("POST", "/emptied", False),
    Case("POST", "/helper", True),
    Case("GET", "/helper", True, unless="nobody knows which methods call a helper"),
    Case("POST", "/whole", True),
    Case("POST", "/included/marked", True),
    Case("POST", "/included/plain", False),
    Case("GET", "/rest/function", True),
    Case("POST", "/rest/permitted", True),
    Case("PUT", "/rest/permitted", False),
    Case("POST", "/rest/outside", True),
    Case("POST", "/rest/plain", False),
    Case("POST", "/rest/view", True),
    Case("PUT", "/rest/view", False),
    Case("POST", "/rest/rests/", True),
    Case("GET", "/rest/rests/", False),
    Case("POST", "/rest/rests/1/export/", True),
    Case("POST", "/rest/rests/1/copy/", False),
    Case("POST", "/rest/named", True),
    Case("GET", "/rest/named", False),
    Case("POST", "/ninja/order/1", True),
    Case("GET", "/ninja/order/1", False),
    Case("DELETE", "/ninja/order/1", False),
    Case("POST", "/ninja/async", True),
    Case("POST", "/ninja/above", False),
    Case("GET", "/none", False),
    Case("GET", "", False),
)


@pytest.fixture(autouse=True)
def _these_urls() -> Iterator[None]:
    languages = [("en", "English"), ("de", "German")]
    middleware = ["django.middleware.locale.LocaleMiddleware"]
    with override_settings(ROOT_URLCONF=__name__, LANGUAGES=languages, MIDDLEWARE=middleware):
        TestDjango.app = get_wsgi_application()
        yield


class TestDjango(FindsHandlers):
    app = get_wsgi_application()
    cases = (*CASES, Case("GET", "/de/translated", True), Case("GET", "/en/translated", True))


class TestBehindStaticFiles(FindsHandlers):
    cases = (Case("POST", "/marked/1", True), Case("GET", "/plain/1", False))

    @pytest.fixture(autouse=True)
    def _with_static_files(self) -> Iterator[None]:
        with override_settings(STATIC_URL="/static/"):
            type(self).app = StaticFilesHandler(get_wsgi_application())
            yield


def test_the_asgi_handler_has_the_same_directory() -> None:
    directory = find_directory(get_asgi_application())
    assert directory is not None
    assert "/included/marked" in [endpoint.where for endpoint in directory.all()]


def test_another_url_configuration_is_followed() -> None:
    is_marked = marked_requests(TestDjango.app)
    assert is_marked is not None
    assert is_marked(environ("POST", "/marked/1"))
    with override_settings(ROOT_URLCONF="tests.frameworks.test_django"):
        assert not is_marked(environ("POST", "/marked/1"))
        assert is_marked(environ("POST", "/async"))
    assert is_marked(environ("POST", "/marked/1"))
