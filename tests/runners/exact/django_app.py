"""The application in Django: sync views, for `django_wsgi` and `django_asgi`."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator"

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import django
from django.conf import settings

from tests.runners.exact.material import (
    FIELDS,
    PIECES,
    RAINCHECK,
    SECRET,
    TEXT,
    WAYS,
    digest,
    environ_of,
    marked,
)

DATABASE = Path(os.environ.get("TEST_DATABASE", "/nowhere"))
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE}},
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "raincheck.django.RaincheckMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.gzip.GZipMiddleware",
    ],
    RAINCHECK={name.upper(): value for name, value in RAINCHECK.items()},
    ROOT_URLCONF="tests.runners.exact.django_app",
    SECRET_KEY=SECRET,
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
)
django.setup(set_prefix=False)

from django.contrib.auth.decorators import login_required  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import (  # noqa: E402
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.middleware.csrf import get_token  # noqa: E402
from django.urls import include, path, re_path, reverse  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402


def with_fields(response: HttpResponse) -> HttpResponse:
    """Add fields; Django has each but once."""
    for name, value in FIELDS:
        response[name] = value
    return response


def echo(request: HttpRequest, rest: str) -> HttpResponse:
    """Answer with all that is seen of the request."""
    way = request.path_info.split("/")[1]
    seen = {
        "environ": environ_of(request.META),
        "url": request.build_absolute_uri(),
        "path": [request.path, request.path_info, request.get_full_path()],
        "headers": {k: v for k, v in request.headers.items() if k != "Prefer"},
        "query": {name: request.GET.getlist(name) for name in request.GET},
        "parameters": rest,
        "cookies": request.COOKIES,
        "scheme": request.scheme,
        "url_for": reverse(f"{way}:echo", kwargs={"rest": "a b/ü"}),
        "body": digest([request.body]),
    }
    return with_fields(JsonResponse(seen, status=201))


def form(request: HttpRequest) -> HttpResponse:
    """Answer with a form."""
    fields: list[Any] = [[name, request.POST.getlist(name)] for name in request.POST]
    for name in request.FILES:
        for value in request.FILES.getlist(name):
            made = digest(value.chunks())
            more = [value.content_type, value.charset, value.size]
            fields.append([name, value.name, more, made])
    return JsonResponse(fields, safe=False)


def session(request: HttpRequest) -> HttpResponse:
    """Answer with what is kept of a session; log in if asked to."""
    before = dict(request.session)
    if "login" in request.GET:
        request.session.update({"user": "Müller", "times": before.get("times", 0) + 1})
    return JsonResponse({"before": before})


def protected(request: HttpRequest) -> HttpResponse:
    """Answer who is logged in; what is posted needs a token."""
    return JsonResponse({"user": request.user.get_username(), "posted": request.POST})


def text(request: HttpRequest) -> HttpResponse:
    """Answer with something to be compressed."""
    return HttpResponse(TEXT, content_type="text/plain")


def stream(request: HttpRequest) -> HttpResponseBase:
    """Answer with pieces."""
    return StreamingHttpResponse(iter(PIECES), content_type="application/x-pieces")


def status(request: HttpRequest) -> HttpResponse:
    """Answer with a status and nothing else."""
    return HttpResponse(status=int(request.GET["status"]), headers={"etag": '"own"'})


def refuse(request: HttpRequest) -> HttpResponse:
    """Answer with an error."""
    return HttpResponse("short and stout", status=418, headers={"X-Pot": "tea"})


def upload(request: HttpRequest) -> HttpResponse:
    """Answer with the hash of a body that is never in memory."""
    hashed, length = hashlib.sha256(), 0
    while piece := request.read(65536):
        hashed.update(piece)
        length += len(piece)
    return JsonResponse({"length": length, "sha256": hashed.hexdigest()})


def log_in(request: HttpRequest) -> HttpResponse:
    """Log in, and hand a token out."""
    from django.contrib.auth import login

    login(request, User.objects.get(username="müller"))
    return HttpResponse(get_token(request))


def routes(way: str) -> list[Any]:
    """Return the routes of one way."""
    open_to_all: dict[str, Any] = {"form": form, "session": session, "text": text, "stream": stream}
    open_to_all |= {"status": status, "refuse": refuse, "upload": upload}
    return [
        re_path("^echo/(?P<rest>.*)$", csrf_exempt(marked(way, echo)), name="echo"),
        path("protected", login_required(marked(way, protected)), name="protected"),
        *(path(name, csrf_exempt(marked(way, each))) for name, each in open_to_all.items()),
    ]


urlpatterns = [
    path("login", log_in),
    *(path(f"{way}/", include((routes(way), way), namespace=way)) for way in WAYS),
]
if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    User.objects.create_user("müller")
