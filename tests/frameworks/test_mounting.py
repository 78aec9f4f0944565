"""raincheck beside CORS and trusted hosts, and the monitor mounted behind a login."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from raincheck import ConfigurationError
from raincheck.asgi import RaincheckMiddleware
from raincheck.monitor.links import Resource
from raincheck.starlette import ROUTE, MonitorResponse, monitor_routes, status_url

pytestmark = pytest.mark.asyncio
ORIGIN = {"origin": "https://app.example.org"}
LOGIN = {"authorization": "me"}
EXPOSED = ["Location", "Operation-Location", "Retry-After", "Link", "Operation-Status"]


async def report(request: Any) -> Response:
    await request.app.state.event.wait()
    return PlainTextResponse("the report")


def client(app: Any) -> httpx.AsyncClient:
    app.state.event = asyncio.Event()
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver")


async def until_done(http: httpx.AsyncClient, url: str, **headers: str) -> httpx.Response:
    async with asyncio.timeout(10):
        while True:
            answer = await http.get(url, headers=headers)
            if answer.status_code != 202:
                return answer
            await asyncio.sleep(0.002)


# --- CORS and hosts ------------------------------------------------------------------------------


@pytest.fixture
def guarded() -> Starlette:
    """Return an application with its middleware in the order that the README tells."""
    app = Starlette(routes=[Route("/report", report)])
    app.add_middleware(RaincheckMiddleware, budget=0, store="memory:")
    app.add_middleware(
        CORSMiddleware,
        allow_origins=[ORIGIN["origin"]],
        allow_methods=["GET", "DELETE"],
        allow_headers=["Prefer"],
        expose_headers=EXPOSED,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["testserver"])
    return app


async def test_a_browser_may_read_the_202_and_every_poll(guarded: Starlette) -> None:
    async with client(guarded) as http:
        accepted = await http.get("/report", headers=ORIGIN)
        polled = await http.get(accepted.headers["location"], headers=ORIGIN)
        guarded.state.event.set()
        done = await until_done(http, accepted.headers["location"], **ORIGIN)
    for answer in (accepted, polled, done):
        assert answer.headers["access-control-allow-origin"] == ORIGIN["origin"]
        assert answer.headers["access-control-expose-headers"] == ", ".join(EXPOSED)
    assert done.text == "the report"


@pytest.mark.parametrize("path", ["/report", "/operations/" + "0" * 32])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_browser_may_ask_for_permission(guarded: Starlette, path: str, method: str) -> None:
    asked = {"access-control-request-method": method, "access-control-request-headers": "prefer"}
    async with client(guarded) as http:
        answer = await http.options(path, headers=ORIGIN | asked)
    assert answer.status_code == 200


async def test_no_url_is_built_from_a_host_that_the_application_refuses(
    guarded: Starlette,
) -> None:
    async with client(guarded) as http:
        answer = await http.get("/report", headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert "location" not in answer.headers


# --- mounted -------------------------------------------------------------------------------------


class RequireLogin:
    """Refuse who has not logged in."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        logged_in = dict(scope["headers"]).get(b"authorization") == b"me"
        refused = PlainTextResponse("log in", 401)
        await (self.app if logged_in else refused)(scope, receive, send)


def mounted(**options: Any) -> Starlette:
    protected = [Middleware(RequireLogin)]
    routes = [
        Mount("/pending", routes=monitor_routes(), middleware=protected),
        Route("/report", report),
    ]
    app = Starlette(routes=routes)
    chosen: dict[str, Any] = {"budget": 0, "store": "memory:", "status_url": status_url} | options
    app.add_middleware(RaincheckMiddleware, **chosen)
    return app


async def test_a_mounted_monitor_is_behind_the_applications_own_login() -> None:
    app = mounted()
    async with client(app) as http:
        accepted = await http.get("/report")
        location = accepted.headers["location"]
        assert location.startswith("http://testserver/pending/")
        for suffix in ("", "/status", "/result"):
            assert (await http.get(location + suffix)).status_code == 401
        assert (await http.get(f"{location}/status", headers=LOGIN)).json()["status"] == "running"
        app.state.event.set()
        assert (await until_done(http, location, **LOGIN)).text == "the report"
        assert (await http.post(location, headers=LOGIN)).status_code == 405
        assert (await http.delete(location, headers=LOGIN)).status_code == 204


async def test_nothing_is_intercepted_where_the_monitor_is_mounted() -> None:
    app = mounted(budget=60)
    async with client(app) as http:
        assert (await http.get("/operations/" + "0" * 32)).text == "Not Found"


async def test_a_poll_is_never_deferred_itself() -> None:
    app = mounted()
    async with client(app) as http:
        location = (await http.get("/report")).headers["location"]
        asked = LOGIN | {"prefer": "respond-async"}
        polled = await http.get(f"{location}/status", headers=asked)
    assert (polled.status_code, polled.json()["status"]) == (200, "running")


async def test_links_follow_a_mount_of_the_whole_application() -> None:
    inner = mounted()
    app = Starlette(routes=[Mount("/v1", app=inner)])
    async with client(inner) as http:
        http._transport = httpx.ASGITransport(app)
        location = (await http.get("/v1/report")).headers["location"]
        assert location.startswith("http://testserver/v1/pending/")
        inner.state.event.set()
        assert (await until_done(http, location, **LOGIN)).text == "the report"


@pytest.mark.parametrize("tenant", ["caf%c3%a9", "a%0d%0aset-cookie:%20pwned=1", "%2541", "100%25"])
async def test_links_follow_a_mount_whatever_its_name(tenant: str) -> None:
    inner = mounted()
    app = Starlette(routes=[Mount("/{tenant}", app=inner)])
    async with client(inner) as http:
        http._transport = httpx.ASGITransport(app)
        accepted = await http.get(f"/{tenant}/report")
        location = accepted.headers["location"]
        assert location.isprintable()
        assert unquote(location).startswith(f"http://testserver/{unquote(tenant)}/pending/")
        assert "set-cookie" not in accepted.headers
        inner.state.event.set()
        assert (await until_done(http, location, **LOGIN)).text == "the report"


async def test_an_endpoint_of_fastapi_may_answer_with_the_monitor() -> None:
    def logged_in(request: Request) -> None:
        if request.headers.get("authorization") != "me":
            raise HTTPException(401)

    router = APIRouter(prefix="/pending", dependencies=[Depends(logged_in)])

    @router.get("/{operation_id}", name=ROUTE)
    async def pending(operation_id: str) -> Response:
        return MonitorResponse(operation_id)

    @router.get("/{operation_id}/status")
    async def status(operation_id: str) -> Response:
        return MonitorResponse(operation_id, Resource.STATUS)

    app = FastAPI(routes=[Route("/report", report)])
    app.include_router(router)
    app.add_middleware(RaincheckMiddleware, budget=0, store="memory:", status_url=status_url)
    async with client(app) as http:
        location = (await http.get("/report")).headers["location"]
        assert (await http.get(location)).status_code == 401
        assert (await http.get(f"{location}/status", headers=LOGIN)).json()["status"] == "running"
        app.state.event.set()
        assert (await until_done(http, location, **LOGIN)).text == "the report"


async def test_a_monitor_that_is_not_mounted_is_said_at_the_first_request() -> None:
    app = Starlette(routes=[Route("/report", report)])
    app.add_middleware(RaincheckMiddleware, store="memory:", status_url=status_url)
    async with client(app) as http:
        with pytest.raises(ConfigurationError, match="mount monitor_routes"):
            await http.get("/report")


async def test_a_middleware_that_is_put_around_cannot_know_the_routes() -> None:
    inner = Starlette(routes=[Mount("/pending", routes=monitor_routes())])
    wrapped = RaincheckMiddleware(inner, store="memory:", status_url=status_url)
    transport = httpx.ASGITransport(wrapped)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
        with pytest.raises(ConfigurationError, match="add_middleware"):
            await http.get("/report")


async def test_monitor_routes_without_the_middleware_say_what_is_missing() -> None:
    app = Starlette(routes=[Mount("/pending", routes=monitor_routes())])
    async with client(app) as http:
        with pytest.raises(ConfigurationError, match="RaincheckMiddleware"):
            await http.get("/pending/x")
