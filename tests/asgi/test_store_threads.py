"""Threads in which an event loop asks the store: each call is told what has come of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from raincheck.asgi import store_threads
from raincheck.asgi.budgets import Awaits
from raincheck.asgi.loops import Loop, running_loop
from raincheck.engine import errands
from raincheck.engine.errands import Errands, Pulse
from raincheck.errors import StoreUnavailable

pytestmark = pytest.mark.anyio
PATIENCE = 30.0  # seconds


class Hanging:
    """A store that does not answer before it may."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.may_end.wait(PATIENCE)
        return "answer"


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.may_end.set()


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the system allow no more, from then on."""

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(store_threads._THREADS, "run", refuse)


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while not is_so():  # noqa: ASYNC110 - threads do not tell it
            await anyio.sleep(0.01)


async def test_a_thread_takes_up_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, hanging: Hanging
) -> None:
    monkeypatch.setattr(store_threads, "_WAIT", PATIENCE)
    monkeypatch.setattr(store_threads, "_LOOK", PATIENCE)
    loop, threads = running_loop(None), list[int]()

    def note() -> None:
        threads.append(threading.get_ident())

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop.read, hanging)
            await anyio.wait_all_tasks_blocked()
            for _ in range(3):
                tasks.start_soon(loop.read, note)
            await anyio.wait_all_tasks_blocked()
            assert not threads
            hanging.may_end.set()
    assert len(threads) == 3
    assert len(set(threads)) == 1


async def test_who_would_have_to_wait_for_calls_that_take_their_time_gets_a_thread_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_threads, "_WAIT", 0.0)
    monkeypatch.setattr(store_threads, "_LOOK", PATIENCE)
    loop, together = running_loop(None), threading.Barrier(4)
    await loop.read(int)  # from then on it is known how long they take
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for _ in range(together.parties):
                tasks.start_soon(loop.read, together.wait, PATIENCE)


async def test_what_has_waited_for_a_moment_gets_a_thread_of_its_own(hanging: Hanging) -> None:
    loop = running_loop(None)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for _ in range(store_threads._AT_ONCE - 1):
                tasks.start_soon(loop.record, hanging)
            assert await loop.record(lambda: "answer") == "answer"
            hanging.may_end.set()


async def test_what_is_done_is_told_although_its_thread_has_something_slow_to_do_next(
    monkeypatch: pytest.MonkeyPatch, hanging: Hanging
) -> None:
    monkeypatch.setattr(store_threads, "_LATEST", PATIENCE)
    loop, first, told = running_loop(None), Hanging(), list[str]()

    async def ask() -> None:
        told.append(await loop.record(first))

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await until(first.begun.is_set)
            monkeypatch.setattr(store_threads, "_AT_ONCE", 1)
            tasks.start_soon(loop.record, hanging)
            await anyio.wait_all_tasks_blocked()
            first.may_end.set()
            await until(hanging.begun.is_set)
            await until(lambda: told == ["answer"])
            hanging.may_end.set()


async def test_there_are_only_so_many_threads(
    monkeypatch: pytest.MonkeyPatch, hanging: Hanging
) -> None:
    monkeypatch.setattr(store_threads, "_AT_ONCE", 3)
    monkeypatch.setattr(store_threads, "_LOOK", 0.001)
    loop, begun = running_loop(None), list[None]()

    def work() -> None:
        begun.append(None)
        hanging()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(loop.read, work)
            await until(lambda: len(begun) == 3)
            for _ in range(20):
                await anyio.sleep(0.005)
            assert len(begun) == 3
            hanging.may_end.set()
    assert len(begun) == 9


async def test_one_timer_serves_all_who_wait(
    monkeypatch: pytest.MonkeyPatch, hanging: Hanging
) -> None:
    monkeypatch.setattr(store_threads, "_AT_ONCE", 1)
    loop, watched = running_loop(None), list[Awaits]()
    watch = loop.watch

    def note(who: Awaits, budget: float) -> dict[Awaits, float]:
        watched.append(who)
        return watch(who, budget)

    monkeypatch.setattr(loop, "watch", note)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(loop.read, hanging)
            await until(hanging.begun.is_set)
            first = len(watched)
            assert first < 100
            await until(lambda: len(watched) >= first + 3)
            hanging.may_end.set()
    assert len(set(watched)) == 1


async def test_what_nobody_awaits_any_more_is_not_begun(
    monkeypatch: pytest.MonkeyPatch, hanging: Hanging
) -> None:
    monkeypatch.setattr(store_threads, "_AT_ONCE", 1)
    loop, promoted = running_loop(None), list[str]()
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop.promote, hanging)
            await until(hanging.begun.is_set)
            async with anyio.create_task_group() as cancelled:
                cancelled.start_soon(loop.promote, promoted.append, "cancelled")
                await anyio.wait_all_tasks_blocked()
                cancelled.cancel_scope.cancel()
            hanging.may_end.set()
            await loop.promote(promoted.append, "awaited")
    assert promoted == ["awaited"]


async def test_those_who_wait_need_no_other_thread_than_the_one_that_is_there(
    monkeypatch: pytest.MonkeyPatch, hanging: Hanging, no_more_threads: Callable[[], None]
) -> None:
    loop, found = running_loop(None), list[str]()

    async def wait() -> None:
        found.append(await loop.read(lambda: "answer"))

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop.read, hanging)
            await until(hanging.begun.is_set)
            no_more_threads()
            for _ in range(3):
                tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            hanging.may_end.set()
    assert found == ["answer"] * 3


async def test_who_comes_when_there_can_be_no_thread_is_told(
    no_more_threads: Callable[[], None],
) -> None:
    loop = running_loop(None)
    no_more_threads()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="new thread"):
            await loop.read(int)


# --- the end of a loop ----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_is_recorded_in_the_end_of_a_loop_does_not_wait_for_one_thread(backend: str) -> None:
    together = threading.Barrier(4)

    async def end(loop: Loop) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await loop.record(together.wait, PATIENCE)

    async def main() -> None:
        loop = running_loop(None)
        for _ in range(together.parties):
            loop.spawn(end(loop))
        await anyio.wait_all_tasks_blocked()

    anyio.run(main, backend=backend)
    assert not together.broken


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_ends_although_something_hangs_that_nobody_awaits(
    backend: str, hanging: Hanging
) -> None:
    over = list[None]()

    def work() -> None:
        try:
            hanging()
        finally:
            over.append(None)

    async def main() -> None:
        loop = running_loop(None)
        loop.spawn(loop.read(work))
        await until(hanging.begun.is_set)

    anyio.run(main, backend=backend)
    assert not over


# --- a store that does not answer ----------------------------------------------------------------


@pytest.fixture
def short_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "BOUND", 0.05)
    monkeypatch.setattr(store_threads, "_LOOK", 0.01)


@pytest.mark.usefixtures("short_bound")
async def test_an_errand_that_is_overdue_is_left_and_so_is_its_thread(hanging: Hanging) -> None:
    loop, run, late, left = running_loop(None), Errands(), list[str](), list[bool]()
    errand = partial(run.run, hanging, late=late.append, left=left.append)
    with pytest.raises(StoreUnavailable, match="not answered within"):
        await loop.promote(errand)
    assert left == [True]
    with pytest.raises(StoreUnavailable, match="left alone"):  # at once: it is known by now
        await loop.promote(errand)
    hanging.may_end.set()
    await until(lambda: late == ["answer"])


@pytest.mark.usefixtures("short_bound")
async def test_threads_that_were_left_are_none_of_those_that_there_may_be(
    monkeypatch: pytest.MonkeyPatch, hanging: Hanging
) -> None:
    monkeypatch.setattr(store_threads, "_AT_ONCE", 2)
    loop = running_loop(None)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="not answered within"):
            await loop.promote(partial(Errands().run, hanging, left=lambda _: None))
    with anyio.fail_after(PATIENCE):
        assert await loop.promote(lambda: "answer") == "answer"


@pytest.mark.usefixtures("short_bound")
async def test_who_waits_behind_one_that_is_left_is_told_when_there_can_be_no_other_thread(
    monkeypatch: pytest.MonkeyPatch, hanging: Hanging, no_more_threads: Callable[[], None]
) -> None:
    loop, errand, told = running_loop(None), partial(Errands().run, hanging), list[str]()

    async def ask() -> None:
        with pytest.raises(StoreUnavailable):
            await loop.promote(partial(errand, left=lambda _: None))

    async def wait() -> None:
        with pytest.raises(RuntimeError, match="new thread"):
            await loop.promote(int)
        told.append("told")

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await until(hanging.begun.is_set)
            no_more_threads()
            for _ in range(3):
                tasks.start_soon(wait)
    assert told == ["told"] * 3


@pytest.mark.usefixtures("short_bound")
async def test_an_errand_within_which_the_store_answers_is_not_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(errands, "BOUND", 0.5)
    loop, pulse, pause = running_loop(None), Pulse(), threading.Event()

    def work() -> str:
        for _ in range(8):
            pause.wait(0.1)
            pulse.beat()
        return "answer"

    errand = partial(Errands().run, work, pulse=pulse, left=lambda _: None)
    assert await loop.promote(errand) == "answer"


async def test_an_errand_is_done_in_the_thread_that_needs_it() -> None:
    loop, threads = running_loop(None), list[int]()

    def work() -> None:
        threads.append(threading.get_ident())
        Errands().run(lambda: threads.append(threading.get_ident()), left=lambda _: None)

    await loop.promote(work)
    assert threads[0] == threads[1] != threading.get_ident()
