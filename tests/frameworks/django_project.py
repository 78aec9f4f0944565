"""What the Django projects under test have in common; their views and URLs are in their modules."""

# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from django.core.signals import request_finished
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.test import override_settings

from raincheck.django import RaincheckMiddleware
from tests.frameworks.session import Paths, Session, talking
from tests.frameworks.work import Trouble, Work
from tests.frameworks.wsgi_checks import MarkedViews, ReleasedViews
from tests.support.django_settings import configure
from tests.support.wsgi_transport import WSGITransport

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

configure()

CSRF = "django.middleware.csrf.CsrfViewMiddleware"
AROUND = f"{__name__}.Around"
DEFERRING = f"{__name__}.Deferring"


class Bench:
    """Where views, which live at module level, find the work of the test that runs."""

    work: Work
    middleware: RaincheckMiddleware


class Deferring(RaincheckMiddleware):
    """Can be found by tests."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        Bench.middleware = self


class Around:
    """Is around all views, and has an answer to `Trouble`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        Bench.work.step("in")
        response = self._get_response(request)
        response.headers["x-seen"] = request.path
        Bench.work.step("out")
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, Trouble):
            return HttpResponse(f"in trouble: {error}", status=503)
        return None


def _finished(sender: object, **more: Any) -> None:
    Bench.work.step("finished")


def build(work: Work, *middleware: str) -> WSGIApplication:
    """Return the application behind these middlewares."""
    Bench.work = work
    with override_settings(MIDDLEWARE=middleware):
        app: WSGIApplication = get_wsgi_application()
        return app


@asynccontextmanager
async def deferring(work: Work, *middleware: str, **options: Any) -> AsyncIterator[Session]:
    """Talk to an application with raincheck's middleware, as `wsgi_checks.deferring` does."""
    setting: dict[str, Any] = {"STORE": "memory:", "BUDGET": None, "APPLICATION": "tests"}
    setting |= {name.upper(): value for name, value in options.items()}
    with override_settings(RAINCHECK=setting):
        app = build(work, *middleware)
    async with talking(WSGITransport(app), work, Bench.middleware) as session:
        try:
            yield session
        finally:
            work.release()
            await asyncio.to_thread(Bench.middleware._gateway.running.drain)


def served(urls: str) -> WSGIApplication:
    """Return the application with these URLs for a real server."""
    override_settings(ROOT_URLCONF=urls).enable()
    return ReleasedViews(build(work := Work(), AROUND, CSRF), work)


class MarkedDjangoViews(MarkedViews):
    """All checks for Django under WSGI.

    Attributes:
        urls: The module that has the URLs.
    """

    urls: ClassVar[str]
    middleware: ClassVar[Paths] = (AROUND, CSRF)
    around: ClassVar[Paths] = ("in", "work", "out", "finished")
    trouble = 503

    @pytest.fixture(autouse=True)
    def _these_urls(self) -> Iterator[None]:
        if "finished" in self.around:
            request_finished.connect(_finished)
        try:
            with override_settings(ROOT_URLCONF=self.urls):
                yield
        finally:
            request_finished.disconnect(_finished)

    def build(self, work: Work) -> WSGIApplication:
        return build(work, *self.middleware)
