"""Views of REST framework and Ninja that write into the database before they are left."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator, no-any-unimported"

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator

from raincheck.runners.leaving import is_exit
from tests.runners import django_views
from tests.runners.django_views import apart, atomic, body, marked, marked_on_loop, steps, writing
from tests.runners.handing import handed_over, loud

# The rest needs the settings, which `django_views` has made.
# isort: split
from ninja import NinjaAPI
from rest_framework.decorators import api_view
from rest_framework.exceptions import PermissionDenied
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

# --- REST framework ----------------------------------------------------------------------------


class Rest(APIView):
    @method_decorator([atomic, writing])
    @handed_over
    def get(self, request: Request) -> Any:
        return body()


@method_decorator(atomic, "dispatch")
class RestWhole(APIView):
    @method_decorator(writing)
    @handed_over
    def get(self, request: Request) -> Any:
        return body()


class RestSet(ViewSet):
    @method_decorator([atomic, writing])
    @handed_over
    def list(self, request: Request) -> Any:
        return body()


class RestWithoutRequest(ListAPIView):
    @handed_over
    def get_queryset(self) -> Any:
        return body()


class RestRefuses(APIView):
    def get(self, request: Request) -> Any:
        try:
            return marked(request)
        except Exception as error:
            steps.append(f"caught: {is_exit(error)}")
            raise PermissionDenied from None

    def handle_exception(self, error: Exception) -> Any:
        return HttpResponse(f"handled: {type(error).__name__}", status=403)


class RestOwnHandler(Rest):
    def handle_exception(self, error: Exception) -> Any:
        return loud(steps)(error)


rest_function = api_view(["GET"])(atomic(writing(marked)))


# --- Ninja -------------------------------------------------------------------------------------

api = NinjaAPI(urls_namespace="leaving", docs_url=None, openapi_url=None)
loud_api = NinjaAPI(urls_namespace="leaving-loud", docs_url=None, openapi_url=None)
loud_api.add_exception_handler(Exception, loud(steps))
for each in (api, loud_api):
    each.get("/sync")(atomic(writing(marked)))
    each.get("/async")(marked_on_loop)


urlpatterns = [
    path("rest/function", rest_function),
    path("rest/class", Rest.as_view()),
    path("rest/whole", apart(RestWhole.as_view())),
    path("rest/set", RestSet.as_view({"get": "list"})),
    path("rest/refuses", RestRefuses.as_view()),
    path("rest/own-handler", RestOwnHandler.as_view()),
    path("rest/without-request", RestWithoutRequest.as_view()),
    path("ninja/", api.urls),
    path("loud-ninja/", loud_api.urls),
    *django_views.urlpatterns,
]
QUIET = [
    *("rest/function", "rest/class", "rest/whole", "rest/set", "rest/own-handler"),
    *("rest/without-request", "ninja/sync", "loud-ninja/sync"),
    *django_views.QUIET,
]
WITHOUT_TRANSACTION = ["ninja/async", "loud-ninja/async"]  # Django refuses async views one
