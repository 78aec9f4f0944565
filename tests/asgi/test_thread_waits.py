"""Nothing is called cancelled while a thread still works for it, whichever task waits for that."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from raincheck.asgi import RaincheckMiddleware, handler_end
from tests.support.asgi import PATIENT, call, follow, path_of
from tests.support.handlers import wrap

pytestmark = pytest.mark.anyio


class Work:
    """What a handler has done in a thread, until a test ends it."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.ended = False

    def __call__(self) -> None:
        self.begun.set()
        assert self.may_end.wait(30)
        self.ended = True

    async def until_begun(self) -> None:
        with anyio.fail_after(PATIENT):
            while not self.begun.is_set():  # noqa: ASYNC110 - set by a thread
                await anyio.sleep(0.002)


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.may_end.set()


async def directly(work: Work) -> None:
    await anyio.to_thread.run_sync(work)


async def in_wait_for(work: Work) -> None:
    await asyncio.wait_for(asyncio.to_thread(work), 60)


async def gathered(work: Work) -> None:
    await asyncio.gather(asyncio.sleep(0), asyncio.to_thread(work))


async def in_task(work: Work) -> None:
    await asyncio.create_task(asyncio.to_thread(work))


async def in_group(work: Work) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(work))


async def beside_a_group(work: Work) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, work)
        await anyio.sleep_forever()


WAYS = [directly, in_wait_for, gathered, in_task, in_group, beside_a_group]


async def passed_on(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("inside", [[], [Middleware(BaseHTTPMiddleware, dispatch=passed_on)]])
async def test_work_in_a_thread_is_cancelled_when_it_is_over(
    work: Work, way: Callable[[Work], Awaitable[None]], inside: list[Middleware]
) -> None:
    async def report(request: Request) -> Response:
        await way(work)
        return PlainTextResponse("done")

    raincheck = Middleware(RaincheckMiddleware, store="memory:", budget=0)
    app = Starlette(routes=[Route("/", report)], middleware=[raincheck, *inside])
    accepted = await call(app)
    await work.until_begun()
    await call(app, path_of(accepted), "DELETE")
    await anyio.sleep(5 * handler_end.GRACE)  # well beyond when it would be cancelled
    running = await call(app, f"{path_of(accepted)}/status")
    assert b'"cancelling"' in running.content
    work.may_end.set()
    assert (await follow(app, accepted)).status in (200, 410)
    assert work.ended


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_threads_of_what_a_handler_only_knows_do_not_keep_it(work: Work) -> None:
    async with anyio.create_task_group() as others:
        others.start_soon(anyio.to_thread.run_sync, work)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            known, own = others, asyncio.ensure_future(asyncio.to_thread(work))
            try:
                await anyio.sleep_forever()
            finally:
                del known, own

        wrapped = wrap(app, budget=0)
        accepted = await call(wrapped)
        await work.until_begun()
        await call(wrapped, path_of(accepted), "DELETE")
        assert (await follow(wrapped, accepted)).status == 410
        work.may_end.set()
