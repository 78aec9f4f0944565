"""Marked responders in Falcon's ASGI flavour: hooks, middleware, sinks, worker threads."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

import falcon
import pytest
from falcon.asgi import App, Request, Response
from starlette.types import ASGIApp

from raincheck import long_running
from tests.frameworks.checks import MarkedHandlers, Released, check_on_a_server
from tests.frameworks.session import Paths, document
from tests.frameworks.work import MADE_BY, Work


class Doorman:
    """Knows who may come near `/guarded`, before it is even routed."""

    async def process_request(self, req: Request, resp: Response) -> None:
        badge = req.get_header("authorization")
        if req.path == "/guarded" and badge is None:
            raise falcon.HTTPUnauthorized(description="who are you?")
        if req.path == "/guarded" and badge != "good":
            raise falcon.HTTPForbidden(description="not you")


async def _read_order(req: Request, _: Response, __: Any, params: dict[str, Any]) -> None:
    media = await req.get_media()
    if not isinstance(media, dict) or not isinstance(media.get("order"), str):
        raise falcon.HTTPUnprocessableEntity(description="order what?")
    params["order"] = media["order"]


def _made(resp: Response, text: str) -> None:
    resp.status = 201
    resp.media = {"made": text}
    resp.set_header(MADE_BY, "hand")


def _resources(work: Work) -> dict[str, object]:
    class OnLoop:
        @falcon.before(_read_order)
        @long_running
        async def on_post(self, req: Request, resp: Response, order: str) -> None:
            _made(resp, await work.on_loop(order))

        @long_running
        async def on_post_suffix(self, req: Request, resp: Response) -> None:
            _made(resp, await work.on_loop((await req.get_media())["order"]))

    class InThread:
        @falcon.before(_read_order)
        @long_running
        async def on_post(self, req: Request, resp: Response, order: str) -> None:
            _made(resp, await asyncio.to_thread(work.in_thread, order))

    class Unmarked:
        @falcon.before(_read_order)
        async def on_post(self, req: Request, resp: Response, order: str) -> None:
            _made(resp, await work.on_loop(order))

    class Plain:
        async def on_get(self, req: Request, resp: Response) -> None:
            resp.text = "plain"

    return {
        "/async": OnLoop(),
        "/guarded": OnLoop(),
        "/thread": InThread(),
        "/unmarked": Unmarked(),
        "/plain": Plain(),
    }


def build(work: Work) -> ASGIApp:
    """Return the application."""
    app = App(middleware=[Doorman()])
    resources = _resources(work)
    for path, resource in resources.items():
        app.add_route(path, resource)
    app.add_route("/suffix", resources["/async"], suffix="suffix")
    return cast(ASGIApp, app)


def serve() -> ASGIApp:
    """Return the application for a real server."""
    return Released(build(work := Work()), work)


class TestFalcon(MarkedHandlers):
    on_loop: ClassVar[Paths] = ("/async", "/suffix")
    in_thread: ClassVar[Paths] = ("/thread",)
    refused = (
        ("/guarded", {}, document(order="tea"), 401),
        ("/guarded", {"authorization": "forged"}, document(order="tea"), 403),
        ("/guarded", {"authorization": "good"}, document(order=3), 422),
        ("/async", {}, b"no JSON", 400),
        ("/plain", {}, b"", 405),
    )

    def build(self, work: Work) -> ASGIApp:
        return build(work)


@pytest.mark.slow
@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_server(__name__, ("/async", "/thread"))
