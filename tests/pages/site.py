"""A small site with slow pages, as Starlette, Flask and Django serve it."""

# mypy: disable-error-code="misc, untyped-decorator, import-untyped"

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from raincheck import current_operation

BUDGET = 0.2  # seconds
STEP = 0.1  # seconds between two looks at whether it is cancelled
STEPS: Mapping[str, int] = {"/page": 40, "/part": 30, "/report": 40, "/file": 40, "/fails": 30}
LONG = 600  # steps
PARTS = """<div id="out"></div>
<button id="part" hx-post="/part" hx-target="#out">part</button>
<button id="wrong" hx-post="/fails" hx-target="#out">wrong</button>"""
FORM = """<!doctype html><html lang="en"><title>Form</title><h1>Form</h1>
<form method="post" action="/report"><button id="report">report</button></form>
<a id="page" href="/page">page</a> <a id="long" href="/long">long</a>
<a id="file" href="/file">file</a> <a id="fails" href="/fails">fails</a>
"""


class Answer(NamedTuple):
    """What a handler says."""

    body: str
    status: int = 200
    headers: Mapping[str, str] = {}


def _shown(text: str) -> Answer:
    html = f'<!doctype html><html lang="en"><title>{text}</title><h1 id="result">{text}</h1>'
    return Answer(html, headers={"Content-Type": "text/html; charset=utf-8"})


ANSWERS: Mapping[str, Answer] = {
    "/": Answer(FORM, headers={"Content-Type": "text/html; charset=utf-8"}),
    "/page": _shown("The page"),
    "/part": _shown("The part"),
    "/report": Answer("", 303, {"Location": "/done"}),
    "/done": _shown("The report"),
    "/long": _shown("Too long"),
    "/file": Answer(
        "a,b\n",
        headers={
            "Content-Type": "text/csv",
            "Content-Disposition": "attachment; filename=rows.csv",
        },
    ),
}
RUNS: list[str] = []


def htmx(version: str) -> str:
    """Return a version of htmx."""
    spec = importlib.util.find_spec("django_htmx")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "static" / "django_htmx"
    return (folder / f"htmx-{version}.min.js").read_text("utf-8")


def _at_once(path: str) -> Answer | None:
    if path == "/runs":
        return Answer(" ".join(RUNS), headers={"Content-Type": "text/plain"})
    if path.startswith("/htmx-"):
        return Answer(htmx(path[-1]), headers={"Content-Type": "text/javascript"})
    if path.startswith("/with-htmx-"):
        html = f'<!doctype html><title>x</title><script src="/htmx-{path[-1]}"></script>{PARTS}'
        return Answer(html, headers={"Content-Type": "text/html"})
    if path in ("/", "/done"):
        return ANSWERS[path]
    return None if path in ANSWERS or path in STEPS else Answer("", 404)


def _steps(path: str) -> Generator[float, None, Answer]:
    """Do the work, in parts between which there are pauses (seconds)."""
    if (found := _at_once(path)) is not None:
        return found
    RUNS.append(path)
    operation, steps = current_operation(), STEPS.get(path, LONG)
    for n in range(steps):
        operation.progress(n, total=steps, message=f"step <{n}>")
        operation.raise_if_cancelled()
        yield STEP
    if path == "/fails":
        raise RuntimeError("this handler fails")
    return ANSWERS[path]


def answer(path: str) -> Answer:
    """Handle a request in this thread."""
    steps = _steps(path)
    while True:
        try:
            time.sleep(next(steps))
        except StopIteration as end:
            return cast("Answer", end.value)


async def answer_in_loop(path: str) -> Answer:
    """Handle a request in the event loop."""
    steps = _steps(path)
    while True:
        try:
            await asyncio.sleep(next(steps))
        except StopIteration as end:
            return cast("Answer", end.value)


def starlette() -> Any:
    """Return the site for uvicorn."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from raincheck.asgi import RaincheckMiddleware

    async def show(request: Request) -> Response:
        body, status, headers = await answer_in_loop(request.url.path)
        return Response(body, status, dict(headers))

    routes = [Route("/{path:path}", show, methods=["GET", "POST"])]
    return Starlette(routes=routes, middleware=[Middleware(RaincheckMiddleware, budget=BUDGET)])


def flask() -> Any:
    """Return the site for gunicorn."""
    from flask import Flask, request

    from raincheck.flask import Raincheck

    app = Flask(__name__)

    @app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @app.route("/<path:path>", methods=["GET", "POST"])
    def show(path: str) -> Any:
        return tuple(answer(request.path))

    Raincheck(app, budget=BUDGET)
    return app


def django() -> Any:
    """Return the site for gunicorn, with raincheck as Django's own middleware."""
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpRequest, HttpResponse
    from django.urls import re_path

    def show(request: HttpRequest) -> HttpResponse:
        body, status, headers = answer(request.path)
        return HttpResponse(body, status=status, headers=dict(headers))

    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=type("Urls", (), {"urlpatterns": [re_path("", show)]}),
        SECRET_KEY=os.urandom(16).hex(),
        MIDDLEWARE=["raincheck.django.RaincheckMiddleware"],
        RAINCHECK={"BUDGET": BUDGET},
    )
    return get_wsgi_application()
