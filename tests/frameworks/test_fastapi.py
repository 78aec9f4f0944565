"""Marked handlers in FastAPI: routers, dependencies, postponed annotations, streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, ClassVar

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import ASGIApp

from raincheck import current_operation, long_running
from raincheck.asgi import RaincheckMiddleware
from tests.frameworks.checks import MarkedHandlers, Released, check_on_a_server
from tests.frameworks.session import Paths, bare, deferring, document
from tests.frameworks.test_starlette import Nosy
from tests.frameworks.work import MADE_BY, Work

HAND = {MADE_BY: "hand"}
GOOD = {"authorization": "good"}
PLAIN = {"plain": True}


async def stamp(response: Response) -> None:
    response.headers.update(HAND)


def check_badge(authorization: Annotated[str | None, Header()] = None) -> str:
    if authorization is None:
        raise HTTPException(401, "who are you?", {"www-authenticate": "Badge"})
    if authorization != "good":
        raise HTTPException(403, "not you")
    return authorization


Badge = Annotated[str, Depends(check_badge)]
Stamped = [Depends(stamp)]


def _functions(work: Work) -> APIRouter:
    router = APIRouter(dependencies=Stamped)

    @router.post("/async", status_code=201)
    @long_running
    async def on_loop(order: Order) -> Made:  # both are defined further below
        return Made(made=await work.on_loop(order.order))

    @router.post("/sync", status_code=201, response_model=Made)
    @long_running
    def in_thread(order: Order) -> dict[str, Any]:
        return {"made": work.in_thread(order.order), "secret": "not in the model"}

    @router.post("/guarded", status_code=201)
    @long_running
    async def guarded(order: Order, badge: Badge) -> Made:
        return Made(made=await work.on_loop(order.order))

    @router.post("/unmarked", status_code=201)
    async def unmarked(order: Order) -> Made:
        return Made(made=await work.on_loop(order.order))

    return router


def _streams(work: Work) -> APIRouter:
    router = APIRouter(prefix="/stream", dependencies=Stamped)

    @router.post("/async")
    @long_running
    async def on_loop(order: Order) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield "first "
            yield await work.on_loop(order.order)

        return StreamingResponse(pieces(), 201, HAND)

    @router.post("/sync")
    @long_running
    def in_thread(order: Order) -> StreamingResponse:
        def pieces() -> Iterator[str]:
            yield "first "
            yield work.in_thread(order.order)

        return StreamingResponse(pieces(), 201, HAND)

    return router


def _generators(work: Work) -> APIRouter:
    router = APIRouter(prefix="/yield", dependencies=Stamped)

    @router.post("/async", status_code=201)
    @long_running
    async def on_loop(order: Order) -> AsyncIterator[Made]:
        yield Made(made="first")
        yield Made(made=await work.on_loop(order.order))

    @router.post("/sync", status_code=201)
    @long_running
    def in_thread(order: Order) -> Iterator[Made]:
        yield Made(made="first")
        yield Made(made=work.in_thread(order.order))

    return router


async def connection(request: Request) -> AsyncIterator[str]:
    work: Work = request.app.state.work
    work.notes.append("opened")
    yield "connection"
    work.notes.append(f"closed, operation {current_operation().id}")


def transaction(request: Request, connection: Annotated[str, Depends(connection)]) -> Iterator[str]:
    work: Work = request.app.state.work
    work.notes.append("begun")
    yield f"{connection}'s transaction"
    work.notes.append("committed")


def _dependencies(work: Work) -> APIRouter:
    router = APIRouter(prefix="/dependencies", dependencies=Stamped)

    @router.post("/async", status_code=201)
    @long_running
    async def on_loop(order: Order, within: Annotated[str, Depends(transaction)]) -> Made:
        return Made(made=f"{await work.on_loop(order.order)} in {within}")

    return router


def build(work: Work, depth: int = 0) -> FastAPI:
    """Return the application, behind that many middlewares of the popular kind."""
    app = FastAPI()
    app.state.work = work
    for router in (_functions(work), _streams(work), _generators(work), _dependencies(work)):
        app.include_router(router)
    nested = APIRouter(prefix="/nested")
    nested.include_router(_functions(work), prefix="/deeply")
    app.include_router(nested, prefix="/api")

    @app.get("/plain")
    def plain(request: Request) -> dict[str, bool]:
        return PLAIN

    for _ in range(depth):
        app.add_middleware(Nosy)
    return app


# Below the handlers whose annotations name them: only their module's globals know these.
class Order(BaseModel):
    order: str


class Made(BaseModel):
    made: str


def serve() -> ASGIApp:
    """Return the application for a real server."""
    return Released(build(work := Work(), depth=1), work)


class TestFastAPI(MarkedHandlers):
    on_loop: ClassVar[Paths] = (
        "/async",
        "/api/nested/deeply/async",
        "/dependencies/async",
        "/stream/async",
        "/yield/async",
    )
    in_thread: ClassVar[Paths] = ("/sync", "/api/nested/deeply/sync", "/stream/sync", "/yield/sync")
    refused = (
        ("/guarded", {}, document(order="tea"), 401),
        ("/guarded", {"authorization": "forged"}, document(order="tea"), 403),
        ("/guarded", GOOD, document(disorder="tea"), 422),
        ("/async", {}, document(order=["tea"]), 422),
        ("/yield/sync", {}, b"no JSON", 422),
    )
    depth = 0

    def build(self, work: Work) -> ASGIApp:
        return build(work, self.depth)


class TestBehindBaseHTTPMiddleware(TestFastAPI):
    on_loop: ClassVar[Paths] = ("/stream/async", "/yield/async")
    in_thread: ClassVar[Paths] = ("/stream/sync", "/yield/sync")
    depth = 1


@pytest.mark.asyncio
async def test_dependencies_stay_open_until_the_handler_ends() -> None:
    work = Work()
    async with deferring(build(work), work) as session:
        accepted = await session.start("/dependencies/async")
        assert work.notes == ["opened", "begun"]
        work.release()
        response = await session.result(accepted)
        assert response.json() == {"made": "made of tea in connection's transaction"}
    closed = f"closed, operation {accepted.json()['id']}"
    assert work.notes == ["opened", "begun", "committed", closed]


@pytest.mark.asyncio
async def test_a_response_model_filters_what_a_deferred_handler_returns() -> None:
    work = Work()
    async with deferring(build(work), work) as session:
        accepted = await session.start("/sync")
        work.release()
        assert (await session.result(accepted)).json() == {"made": "made of tea"}


@pytest.mark.asyncio
async def test_an_http_exception_of_a_deferred_handler_is_its_response() -> None:
    app = FastAPI()

    @app.get("/")
    @long_running
    async def refuse() -> None:
        raise HTTPException(409, "sold out")

    async with deferring(app, Work()) as session:
        accepted = await session.client.get("/")
        response = await session.result(accepted)
        assert (response.status_code, response.json()) == (409, {"detail": "sold out"})
        assert await session.state(accepted) == "failed"


@pytest.mark.asyncio
async def test_raincheck_may_be_added_as_one_of_the_middlewares() -> None:
    work = Work()
    app = build(work, depth=1)
    app.add_middleware(RaincheckMiddleware, budget=None, store="memory:")
    async with bare(app, work) as session:
        accepted = await session.start("/sync")
        work.release()
        response = await session.result(accepted)
        assert (response.status_code, response.headers["x-seen"]) == (201, "yes")


def test_a_marked_handler_is_documented_as_it_would_be_without_the_mark() -> None:
    paths = build(Work()).openapi()["paths"]
    marked, unmarked = paths["/async"]["post"], paths["/unmarked"]["post"]
    assert marked["requestBody"] == unmarked["requestBody"]
    assert marked["responses"] == unmarked["responses"]
    assert marked["summary"] == "On Loop"


@pytest.mark.server
def test_marked_handlers_are_deferred_on_a_real_server() -> None:
    check_on_a_server(__name__, ("/async", "/sync", "/yield/async"))
