"""A URL configuration that includes the status monitor below a path that URLs have to quote."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from django.urls import include, path

from tests.django import views

urlpatterns = [path("für später/", include("raincheck.django.urls")), *views.urlpatterns]
