"""Marks as they should not be."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator"

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.urls import path

from raincheck import long_running


@long_running
@login_required
def before_the_guard(request: HttpRequest) -> HttpResponse:
    return HttpResponse("marked")


@login_required
@long_running
def behind_the_guard(request: HttpRequest) -> HttpResponse:
    return HttpResponse("marked")


urlpatterns = [path("before", before_the_guard), path("behind", behind_the_guard)]
