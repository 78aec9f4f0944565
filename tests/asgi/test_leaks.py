"""What requests leave behind, at their best and where something breaks: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import tracemalloc
import weakref
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from raincheck.asgi import RaincheckMiddleware
from raincheck.asgi.exchange import Exchange
from raincheck.asgi.handler_end import HandlerEnd
from raincheck.asgi.loops import running_loop
from raincheck.contracts import Filter
from raincheck.engine import heartbeat
from raincheck.engine.start import Start
from raincheck.operations.operation import Reason
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import PATIENT, Call, call, engine_of, follow, http_scope, path_of
from tests.support.handlers import SHORT, Untouchable, answer, slow, until_deferred, wrap
from tests.support.memory import size_of_what_is_not_learned
from tests.support.wsgi import until

pytestmark = [pytest.mark.anyio, pytest.mark.load]

REQUESTS = 300


class Forgetful(MemoryStore):
    """Keeps nothing that is over, so that only the gateway's own memory is seen."""

    def swap(self, old: Any, new: Any, **drops: bool) -> bool:
        swapped = super().swap(old, new, **drops)
        if new.is_terminal:
            del self._operations[new.id], self._shelves[new.id]
            self._expiring[False].clear()
        return swapped


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Let only reference counts free memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def until_idle(app: RaincheckMiddleware) -> None:
    with anyio.fail_after(PATIENT):
        while engine_of(app).is_busy or app._gateway.running._handlers:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)


async def repeat(app: RaincheckMiddleware, times: int = REQUESTS) -> None:
    for _ in range(times):
        await call(app)
    await until_idle(app)


async def quick(scope: Any, receive: Any, send: Any) -> None:
    await anyio.lowlevel.checkpoint()
    await answer(send)


async def deferred(scope: Any, receive: Any, send: Any) -> None:
    await until_deferred()
    await answer(send)


async def raising(scope: Any, receive: Any, send: Any) -> None:
    await anyio.lowlevel.checkpoint()
    raise ValueError


def exchanges() -> int:
    # Not isinstance: it asks objects for their class, and lazy ones do something then.
    return sum(issubclass(type(thing), Exchange) for thing in gc.get_objects())


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("app", [quick, raising])
async def test_a_fast_request_leaves_no_cycle(app: Any) -> None:
    wrapped = wrap(app, budget=60, store=Untouchable())
    before = exchanges()
    await repeat_untouched(wrapped)
    assert exchanges() <= before


async def repeat_untouched(app: RaincheckMiddleware) -> None:
    for _ in range(REQUESTS):
        server: Any = Call(app, http_scope())
        with contextlib.suppress(ValueError):  # to keep it would make a cycle of the server's
            await app(server.scope, server.receive, server.send)


@pytest.mark.usefixtures("without_collector")
async def test_a_deferred_request_leaves_no_cycle() -> None:
    wrapped = wrap(quick, budget=0, store=Forgetful())
    before = exchanges()
    await repeat(wrapped, 20)
    with anyio.fail_after(PATIENT):  # the last ones' tasks may not have been reaped
        while exchanges() - before > 2:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [0, 60])
async def test_memory_does_not_grow(budget: float) -> None:
    wrapped, sizes = wrap(quick, budget=budget, store=Forgetful()), list[int]()
    await repeat(wrapped)
    tracemalloc.start()
    for _ in range(4):
        await repeat(wrapped)
        gc.collect()
        sizes.append(size_of_what_is_not_learned())
    tracemalloc.stop()
    # A leak grows each time; a worker thread that is begun only once.
    assert min(after - before for before, after in pairwise(sizes)) < 100 * REQUESTS


async def test_requests_that_are_over_wait_for_no_timer() -> None:
    wrapped = wrap(quick, budget=60)
    await repeat(wrapped)
    loop: Any = wrapped._gateway.running.running_loop()
    assert [group.waiting for group in loop._budgets.values()] == [{}]


async def test_a_cancelled_request_waits_for_no_timer() -> None:
    wrapped = wrap(slow(anyio.Event()), budget=60)
    with anyio.move_on_after(SHORT):
        await call(wrapped)
    loop: Any = wrapped._gateway.running.running_loop()
    assert [group.waiting for group in loop._budgets.values()] == [{}]


async def test_a_middleware_that_is_dropped_takes_its_thread_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    monkeypatch.setattr(heartbeat, "RECOVER", 0.01)
    before = set(threading.enumerate())
    wrapped = wrap(quick, budget=0)
    await follow(wrapped, await call(wrapped))
    await until_idle(wrapped)
    beaters = [t for t in threading.enumerate() if t not in before and "heartbeat" in t.name]
    engine = weakref.ref(engine_of(wrapped))
    del wrapped
    with anyio.fail_after(PATIENT):
        while engine() is not None or any(thread.is_alive() for thread in beaters):
            gc.collect()
            await anyio.sleep(0.01)
    assert len(beaters) == 1


def test_one_middleware_serves_two_event_loops_at_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        await answer(send)

    async def some() -> None:
        for _ in range(5):
            done.append((await follow(wrapped, await call(wrapped))).content)

    wrapped, done = wrap(app), list[bytes]()
    threads = [
        threading.Thread(target=anyio.run, args=(some,), kwargs={"backend": backend})
        for backend in ("asyncio", "trio", "asyncio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
    assert done == [b"done"] * 15
    until(lambda: not engine_of(wrapped).is_busy)  # they land after their ends are recorded


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_is_closed_ends_what_was_deferred_in_it(backend: str) -> None:
    async def run() -> Call:
        return await call(wrapped, "/", "POST")  # a GET would be run again

    async def look() -> Call:
        return await follow(wrapped, accepted)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep_forever()

    wrapped = wrap(app)
    accepted = anyio.run(run, backend=backend)
    assert b"shutdown" in anyio.run(look, backend=backend).content
    assert not wrapped._gateway.running._handlers
    until(lambda: not engine_of(wrapped).is_busy)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_task_is_left_when_all_operations_have_ended() -> None:
    before = asyncio.all_tasks()
    await repeat(wrap(quick, budget=0), 20)
    with anyio.fail_after(PATIENT):
        while asyncio.all_tasks() - before:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.002)


async def test_a_file_that_comes_too_early_is_closed() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        await send({"type": "http.response.pathsend", "path": __file__})

    wrapped = wrap(app)
    await follow(wrapped, await call(wrapped))
    before = _open_files()
    await follow(wrapped, await call(wrapped))
    assert _open_files() == before


def _open_files() -> int:
    return sum(os.path.realpath(f"/proc/self/fd/{n}") == __file__ for n in _descriptors())


def _descriptors() -> list[str]:
    try:
        return os.listdir("/proc/self/fd")
    except FileNotFoundError:
        pytest.skip("only Linux lists descriptors")


# --- the engine and its thread -------------------------------------------------------------------


async def test_an_ending_that_the_store_chokes_on_still_ends_the_operation() -> None:
    class Choking(MemoryStore):
        def swap(self, old: Any, new: Any, **drops: bool) -> bool:
            if new.result is not None:
                raise TypeError("can't be written")
            return super().swap(old, new, **drops)

    wrapped = wrap(deferred, store=Choking())
    accepted = await call(wrapped)
    with anyio.fail_after(PATIENT):
        while len(engine_of(wrapped).running):  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)
        engine_of(wrapped).beat()
        assert (await follow(wrapped, accepted)).status == 500


async def test_without_a_heartbeat_thread_there_is_no_operation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    wrapped = wrap(quick)
    engine = engine_of(wrapped)
    with monkeypatch.context() as patch:
        patch.setattr("raincheck.engine.heartbeat.threading.Thread.start", refuse)
        with pytest.raises(RuntimeError):
            engine.accept(_Nobody(), Start(method="GET", route="/"))
    assert engine.store.find(Filter())[0] == []
    assert not engine.is_busy
    engine.heartbeat.ensure()
    engine.heartbeat.stop()


class _Nobody:
    is_stranded = False

    def request_cancel(self) -> None: ...

    def give_up(self, reason: Reason) -> None: ...


async def test_all_who_wait_for_a_sync_handler_wait_for_the_same_event() -> None:
    stopping = HandlerEnd(running_loop(None))
    stopping.enter()
    async with anyio.create_task_group() as group:
        group.start_soon(stopping.until_outside)
        await anyio.sleep(SHORT)
        first = stopping._outside
        group.start_soon(stopping.until_outside)
        await anyio.sleep(SHORT)
        second = stopping._outside
        stopping.leave()
        if first is not None:
            first.set()  # or a shielded wait would outlive this test
    assert second is first


async def test_middlewares_in_one_another_make_one_operation() -> None:
    event = anyio.Event()
    wrapped = wrap(wrap(slow(event)))
    accepted = await call(wrapped)
    await anyio.sleep(3 * SHORT)
    event.set()
    assert (await follow(wrapped, accepted)).content == b"done"


async def test_middlewares_that_share_a_store_leave_each_others_operations_alone() -> None:
    store, event = MemoryStore(), anyio.Event()
    one, other = wrap(slow(event), store=store), wrap(slow(event), store=store)
    accepted = await call(one)
    assert engine_of(other).recover() == 0
    engine_of(other).beat()
    assert (await call(other, path_of(accepted))).status == 202
    event.set()
    assert (await follow(other, accepted)).content == b"done"


# --- applications that outlive their end ---


async def test_what_is_sent_after_the_application_has_returned_is_lost() -> None:
    late = anyio.Event()

    async with anyio.create_task_group() as group:

        async def child(send: Any) -> None:
            await late.wait()
            await answer(send, b"late")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await until_deferred()
            group.start_soon(child, send)

        wrapped = wrap(app)
        accepted = await call(wrapped)
        assert (await follow(wrapped, accepted)).status == 500
        late.set()
    assert (await follow(wrapped, accepted)).status == 500


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_swallows_its_cancellation_is_cancelling_until_it_ends() -> None:
    event = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not event.is_set():
            try:
                await event.wait()
            except asyncio.CancelledError:
                caught.set()
        await answer(send)

    caught = asyncio.Event()
    wrapped = wrap(app)
    accepted = await call(wrapped)
    await call(wrapped, path_of(accepted), "DELETE")
    await asyncio.wait_for(caught.wait(), PATIENT)
    assert b'"cancelling"' in (await call(wrapped, path_of(accepted))).content
    event.set()
    assert (await follow(wrapped, accepted)).status == 410
