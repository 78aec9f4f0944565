"""A URL configuration whose paths begin with a language."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path

from tests.django import views

urlpatterns = i18n_patterns(
    path("pending/", include("raincheck.django.urls")),
    *views.urlpatterns,
)
