"""Handlers whose event loop ends before they do, in a process that goes on."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from raincheck.asgi import RaincheckMiddleware
from raincheck.asgi.loops import AsyncioLoop, TrioLoop
from raincheck.contracts import Filter
from raincheck.operations.operation import Operation, Reason, State
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import BACKENDS, PATIENT, call, engine_of, follow, lose, recover
from tests.support.handlers import answer, wrap
from tests.unit.engines import wait_until

pytestmark = [
    pytest.mark.usefixtures("by_hand"),
    pytest.mark.filterwarnings("error"),
]


async def sleeper(scope: Any, receive: Any, send: Any) -> None:
    await anyio.sleep_forever()


def only_one(app: RaincheckMiddleware) -> Operation:
    (operation,), _ = engine_of(app).store.find(Filter())
    return operation


def run_and_close(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run in a loop that is closed without a word to its tasks, which `asyncio.run` cancels."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # it says that tasks were pending
    try:
        return loop.run_until_complete(work())
    finally:
        loop.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_taken_up_while_the_loop_ends_is_released(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = TrioLoop if backend == "trio" else AsyncioLoop
    app, called = wrap(sleeper, budget=0), threading.Event()
    told = loop.call

    def tell(self: Any, function: Callable[[], None]) -> None:
        told(self, function)
        called.set()

    async def main() -> threading.Thread:
        await call(app)
        await lose(app)
        monkeypatch.setattr(loop, "call", tell)
        recovering = threading.Thread(target=engine_of(app).recover)
        recovering.start()
        called.wait(PATIENT)  # the loop has no turn to begin it before it ends
        return recovering

    anyio.run(main, backend=backend).join()
    gc.collect()
    engine_of(app).beat()
    assert only_one(app).state is State.ACCEPTED
    assert not engine_of(app).is_busy
    assert not app._gateway.running._handlers


class LateStore(MemoryStore):
    """A store that records an operation only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.may_answer, self.has_answered = (threading.Event() for _ in range(3))

    def create(self, *args: Any, **options: Any) -> Operation:
        self.is_asked.set()
        self.may_answer.wait(PATIENT)
        return super().create(*args, **options)


@pytest.mark.parametrize("budget", [0, 0.01])
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_recorded_after_the_loop_has_ended_is_given_up(backend: str, budget: float) -> None:
    store = LateStore()
    app = wrap(sleeper, budget=budget, store=store)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(call, app, method="POST"))
            await anyio.to_thread.run_sync(store.is_asked.wait, PATIENT)
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    store.may_answer.set()
    wait_until(lambda: any(running.run for running in engine_of(app).running.all()))
    engine_of(app).beat()
    ended = only_one(app)
    assert (ended.state, ended.reason) == (State.FAILED, Reason.SHUTDOWN)
    assert not engine_of(app).is_busy
    gc.collect()


def test_a_handler_of_a_closed_loop_is_run_again_in_the_next() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["path"])
        if len(calls) == 1:
            await anyio.sleep_forever()
        await answer(send, b"at last")

    async def again() -> bytes:
        await recover(wrapped)
        return (await follow(wrapped, accepted)).content

    calls = list[str]()
    wrapped = wrap(app, budget=0)

    async def once() -> Any:
        response = await call(wrapped)
        while not calls:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        return response

    accepted = run_and_close(once)
    engine_of(wrapped).beat()
    assert only_one(wrapped).state is State.ACCEPTED
    assert run_and_close(again) == b"at last"
    gc.collect()


def test_one_that_may_not_be_run_again_is_interrupted() -> None:
    app = wrap(sleeper, budget=0)
    run_and_close(lambda: call(app, method="POST"))
    engine_of(app).beat()
    ended = only_one(app)
    assert (ended.state, ended.reason) == (State.FAILED, Reason.SHUTDOWN)
    assert not engine_of(app).is_busy
    gc.collect()


def test_one_of_a_loop_that_only_pauses_goes_on() -> None:
    app, loop = wrap(sleeper, budget=0), asyncio.new_event_loop()
    try:
        loop.run_until_complete(call(app))
        engine_of(app).beat()
        assert only_one(app).state is State.RUNNING
        loop.run_until_complete(lose(app))
    finally:
        loop.close()
