"""URL configurations that include the status monitor."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from tests.django import views


def other(request: HttpRequest) -> HttpResponse:
    return HttpResponse("other")


urlpatterns = [
    path("other", other),
    path("pending/", include("raincheck.django.urls")),
    *views.urlpatterns,
]
