"""Applications that are over only when they have heard of a disconnect, as Quart is."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from raincheck import is_rerun
from raincheck.asgi import RaincheckMiddleware
from tests.support.asgi import PATIENT, call, engine_of, follow, lose, recover
from tests.support.handlers import answer, until_deferred, wrap

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("by_hand")]


async def listen(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_nothing_runs(app: RaincheckMiddleware) -> None:
    with anyio.fail_after(PATIENT):
        while app._gateway.running._handlers:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)
    assert not engine_of(app).is_busy


@pytest.mark.parametrize("budget", [0, 0.02])
async def test_one_that_listens_meanwhile_hears_of_it_when_its_response_is_complete(
    budget: float,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(listen, receive)
            await until_deferred()
            await answer(send)

    wrapped = wrap(app, budget=budget)
    accepted = await call(wrapped)
    assert (await follow(wrapped, accepted)).content == b"done"
    await until_nothing_runs(wrapped)


async def test_one_that_listens_afterwards_hears_of_it_at_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)
        await listen(receive)

    wrapped = wrap(app, budget=0)
    assert (await follow(wrapped, await call(wrapped))).content == b"done"
    await until_nothing_runs(wrapped)


async def test_so_does_one_that_is_run_again() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(listen, receive)
            if not is_rerun():
                await anyio.sleep_forever()
            await answer(send)

    wrapped = wrap(app, budget=0)
    accepted = await call(wrapped)
    await lose(wrapped)
    await recover(wrapped)
    assert (await follow(wrapped, accepted)).content == b"done"
    await until_nothing_runs(wrapped)


async def test_one_that_has_not_answered_yet_hears_of_none() -> None:
    heard = list[str]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with anyio.move_on_after(0.1):
            heard.append((await receive())["type"])
        await answer(send)

    wrapped = wrap(app, budget=0)
    assert (await follow(wrapped, await call(wrapped))).content == b"done"
    assert heard == []
