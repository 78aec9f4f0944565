"""A program with Sentry in its process: it asks an application, and prints what Sentry was told.

    python -m tests.frameworks.instruments.sentry starlette added

As Sentry changes the classes of frameworks for good, no test has it in its own process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration
from sentry_sdk.integrations.stdlib import StdlibIntegration
from sentry_sdk.transport import Transport

told: list[dict[str, Any]] = []


class InMemory(Transport):
    """Keeps what would be sent."""

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            if item.type in ("event", "transaction"):
                told.append(item.payload.json or {})


sentry_sdk.init(
    dsn="http://key@localhost/1",
    transport=InMemory,
    traces_sample_rate=1.0,
    integrations=[DjangoIntegration(), FlaskIntegration(), StarletteIntegration()],
    auto_enabling_integrations=False,  # they import everything there is
    disabled_integrations=[StdlibIntegration()],  # the client is no part of it
)

import httpx  # noqa: E402 - after Sentry, as in programs that use it
from flask import Flask  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import PlainTextResponse, Response  # noqa: E402
from starlette.routing import Route  # noqa: E402

from raincheck.asgi import RaincheckMiddleware  # noqa: E402
from raincheck.flask import Raincheck  # noqa: E402
from raincheck.inspection.check import check  # noqa: E402
from raincheck.wsgi import RaincheckMiddleware as WSGIMiddleware  # noqa: E402

OPTIONS: dict[str, Any] = {"store": "memory:", "budgets": {"/slow/**": 0.05}}
PATIENTLY = {"Prefer": "wait=20"}
go_on = threading.Event()


def work(fails: bool) -> None:
    with sentry_sdk.start_span(op="work", name="the work"):
        pass
    if fails:
        raise ValueError("the handler has failed")


async def handle(request: Request) -> Response:
    if request.path_params["speed"] == "slow":
        await asyncio.to_thread(go_on.wait, 20)
    work(request.path_params["end"] == "fails")
    return PlainTextResponse("done")


def starlette(place: str) -> Any:
    app: Any = Starlette(routes=[Route("/{speed}/{end}", handle)])
    if place == "inside":
        app.add_middleware(RaincheckMiddleware, **OPTIONS)
    if place == "around":
        app = RaincheckMiddleware(app, **OPTIONS)
    return app


def flask(place: str) -> Any:
    app: Any = Flask("shop")

    @app.get("/<speed>/<end>")  # type: ignore[untyped-decorator]
    def handle(speed: str, end: str) -> str:
        if speed == "slow":
            go_on.wait(20)
        work(end == "fails")
        return "done"

    if place == "inside":
        Raincheck(app, **OPTIONS)
    if place == "around":
        app = WSGIMiddleware(app, **OPTIONS)
    return app


def django(place: str) -> Any:
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpRequest, HttpResponse
    from django.urls import path

    def handle(request: HttpRequest, speed: str, end: str) -> HttpResponse:
        if speed == "slow":
            go_on.wait(20)
        work(end == "fails")
        return HttpResponse("done")

    ours = {"bare": [], "inside": ["raincheck.django.RaincheckMiddleware"]}[place]
    settings.configure(
        SECRET_KEY="none",  # noqa: S106
        ROOT_URLCONF=(path("<speed>/<end>", handle),),
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=ours,
        RAINCHECK={name.upper(): value for name, value in OPTIONS.items()},
    )
    return get_wsgi_application()


def client(app: Any, framework: str) -> Callable[..., Any]:
    """Return what asks the application, with nothing of Sentry's for clients in between."""
    if framework != "starlette":
        transport = httpx.WSGITransport(app, raise_app_exceptions=False)
        asking = httpx.Client(transport=transport, base_url="http://shop")
        return asking.get

    def get(path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(_get(app, path, headers), _loop).result(30)

    return get


async def _get(app: Any, path: str, headers: dict[str, str] | None) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as asking:
        return await asking.get(path, headers=headers)


_loop = asyncio.new_event_loop()


def ask(get: Callable[..., Any], path: str, *, is_bare: bool) -> dict[str, Any]:
    """Ask until the response is there, and return what Sentry was told meanwhile."""
    told.clear()
    if not is_bare:
        go_on.clear()
    response = get(path)
    statuses = [response.status_code]
    at_202 = shown(told)
    go_on.set()
    while response.status_code == 202:
        response = get(response.headers["location"], headers=PATIENTLY)
    statuses.append(response.status_code)
    return {"statuses": statuses, "at_202": at_202, "told": shown(told)}


def shown(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "kind": each.get("type", "event"),
            "name": each["transaction"],
            "trace": each["contexts"]["trace"]["trace_id"],
            "status": each["contexts"].get("response", {}).get("status_code"),
            "spans": [s["description"] for s in each.get("spans", ()) if s["op"] == "work"],
            "error": [v["value"] for v in each.get("exception", {}).get("values", ())],
        }
        for each in found
    ]


def main(framework: str, place: str) -> None:
    """Print what Sentry was told of each kind of request, as JSON."""
    threading.Thread(target=_loop.run_forever, daemon=True).start()
    go_on.set()
    app = {"django": django, "flask": flask, "starlette": starlette}[framework](place)
    get = client(app, framework)
    paths = ("/fast/succeeds", "/fast/fails", "/slow/succeeds", "/slow/fails")
    found: dict[str, Any] = {path: ask(get, path, is_bare=place == "bare") for path in paths}
    report = check(app)
    found["check"] = [complaint.code for complaint in report.complaints] if report else None
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
