"""What is around the middleware, and what a request that is run again has to do with it."""

from __future__ import annotations

import json
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from raincheck import is_rerun, long_running
from raincheck.asgi import RaincheckMiddleware
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import PATIENT, call, follow, inside, lose, recover
from tests.support.handlers import answer, read_body, until_said, wrap

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("by_hand")]

SIZES = [5, 3_000_000]
LENGTHS = {size: [(b"content-length", b"%d" % size)] for size in SIZES}


class Reads:
    """A middleware that reads the body, to verify it, and hands it on."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = [await read_body(receive)]

        async def again() -> Any:
            if body:
                return {"type": "http.request", "body": body.pop().upper(), "more_body": False}
            return await receive()

        await self.app(scope, again, send)


class Verifies(BaseHTTPMiddleware):
    """The usual way to do so."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        await request.body()
        response: Response = await call_next(request)
        return response


async def again(around: Any, routes: list[Route], *request: Any, budget: float = 0) -> Any:
    """Have a request run in one process, and again in another, and return its response."""
    raincheck = Middleware(
        RaincheckMiddleware, store=MemoryStore(), budget=budget, retry={"/x": True}
    )
    first, second = (
        Starlette(routes=routes, middleware=[Middleware(around), raincheck]) for _ in range(2)
    )
    accepted = await call(first, *request)
    await lose(inside(first))
    await call(second, "/operations/none")  # it knows its loop and surroundings from then on
    await recover(inside(second))
    with anyio.fail_after(PATIENT):
        return await follow(second, accepted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("around", [Reads, Verifies])
async def test_a_rerun_receives_what_the_middleware_around_hands_on(around: Any, size: int) -> None:
    async def put(request: Request) -> Response:
        if not is_rerun():
            await anyio.sleep_forever()
        body = await request.body()
        return JSONResponse([is_rerun(), len(body), body.decode()[:3]])

    done = await again(
        around, [Route("/x", put, methods=["PUT"])], "/x", "PUT", LENGTHS[size], [b"x" * size]
    )
    shown = "XXX" if around is Reads else "xxx"
    assert json.loads(done.content) == [True, size, shown]


async def test_a_handler_of_a_rerun_sees_no_disconnect_when_it_has_read_everything() -> None:
    received = list[str]()

    async def put(request: Request) -> Response:
        if is_rerun():
            await request.body()
            with anyio.move_on_after(0.1):
                received.append((await request.receive())["type"])
        else:
            await anyio.sleep_forever()
        return PlainTextResponse("done")

    done = await again(
        Verifies, [Route("/x", put, methods=["PUT"])], "/x", "PUT", LENGTHS[5], [b"hello"]
    )
    assert (done.content, received) == (b"done", [])


async def test_a_body_that_is_not_handed_on_whole_the_second_time_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Breaks(Reads):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def gone() -> Any:
                return {"type": "http.disconnect"}

            await self.app(scope, gone if is_rerun() else receive, send)

    async def put(request: Request) -> Response:
        assert not is_rerun(), "it has not got its body"
        await anyio.sleep_forever()
        return Response()

    done = await again(
        Breaks, [Route("/x", put, methods=["PUT"])], "/x", "PUT", LENGTHS[5], [b"hello"]
    )
    assert done.status == 500
    await until_said(caplog, "not handed on whole")


async def test_a_request_of_what_is_around_is_not_taken_for_the_one_that_is_run_again() -> None:
    class Asks:
        """A middleware that asks the application itself who may come in."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/x":
                transport = httpx.ASGITransport(self.app)
                async with httpx.AsyncClient(transport=transport, base_url="http://own") as own:
                    assert (await own.get("/token")).content == b"a token"
            await self.app(scope, receive, send)

    @long_running
    async def x(request: Request) -> Response:
        if not is_rerun():
            await anyio.sleep_forever()
        return PlainTextResponse("the right one")

    async def token(request: Request) -> Response:
        return PlainTextResponse("a token")

    assert (
        await again(Asks, [Route("/x", x), Route("/token", token)], "/x", budget=60)
    ).content == b"the right one"


@pytest.fixture
async def few_threads() -> Any:
    """Leave two threads to handlers."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    before, limiter.total_tokens = limiter.total_tokens, 2
    yield
    limiter.total_tokens = before


@pytest.mark.usefixtures("few_threads")
async def test_handlers_in_all_threads_get_the_bodies_of_their_reruns() -> None:
    together = anyio.Event()

    async def body_of(receive: Any) -> bytes:
        """Receive when both threads are taken."""
        if anyio.to_thread.current_default_thread_limiter().available_tokens == 0:
            together.set()
        await together.wait()
        return await read_body(receive)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not is_rerun():
            await anyio.sleep_forever()
        read = lambda: anyio.from_thread.run(body_of, receive)  # noqa: E731
        await answer(send, await anyio.to_thread.run_sync(read, abandon_on_cancel=True))

    store = MemoryStore()
    first, second = (wrap(app, store=store, budget=0, retry={"/": True}) for _ in range(2))
    accepted = [await call(first, "/", "PUT", LENGTHS[5], [b"hello"]) for _ in range(2)]
    await lose(first)
    with anyio.fail_after(PATIENT):
        await recover(second)
        await recover(second)
        for one in accepted:
            assert (await follow(second, one)).content == b"hello"
