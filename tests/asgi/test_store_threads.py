"""Threads in which an event loop asks the store: each call is told what has come of it."""

from __future__ import annotations

import threading

import anyio
import pytest

from raincheck.asgi import store_threads
from raincheck.asgi.loops import running_loop

pytestmark = pytest.mark.anyio


async def test_all_that_wait_are_told_when_the_system_allows_no_more_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(store_threads, "_AT_ONCE", 1)
    loop, may_end, told = running_loop(None), threading.Event(), list[str]()

    async def wait() -> None:
        with pytest.raises(RuntimeError, match="new thread"):
            await loop.read(int)
        told.append("told")

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop.read, may_end.wait)
            await anyio.wait_all_tasks_blocked()
            for _ in range(3):
                tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            monkeypatch.setattr(store_threads._THREADS, "run", refuse)
            may_end.set()
    assert told == ["told"] * 3
