"""Who cancels whom, and what that is taken for: time limits around, shields and stop buttons."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from raincheck.asgi.cancelling import Witness
from tests.support.asgi import PATIENT, call, follow, path_of
from tests.support.handlers import answer, wrap

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("by_hand")]


class Cleaning:
    """A handler that cleans up under a shield, and one that is cut while it does so without."""

    def __init__(self) -> None:
        self.log = list[str]()
        self.may_end = anyio.Event()

    async def shielded(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                self.log.append("cleans up")
                await self.may_end.wait()
                self.log.append("cleaned up")
            await anyio.sleep_forever()

    async def unshielded(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.log.append("cleans up")
            await anyio.lowlevel.checkpoint()
            self.log.append("cleaned up")


async def in_time(cleaning: Cleaning, app: Any) -> None:
    """Call an application in a scope that is cancelled when its handler waits."""
    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0.02):
            group.start_soon(let_end, cleaning)
            await call(app)


async def let_end(cleaning: Cleaning) -> None:
    await anyio.sleep(0.1)  # for as long as it would take to cut it
    cleaning.may_end.set()


@pytest.mark.parametrize("kind", ["shielded", "unshielded"])
async def test_a_scope_around_cancels_a_handler_but_not_in_its_shields_as_without(
    kind: str,
) -> None:
    bare, wrapped = Cleaning(), Cleaning()
    await in_time(bare, getattr(bare, kind))
    await in_time(wrapped, wrap(getattr(wrapped, kind), budget=PATIENT))
    assert wrapped.log == bare.log
    assert wrapped.log == ["cleans up", "cleaned up"][: len(wrapped.log)]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_asyncio_cancels_is_cancelled_once_shield_or_not() -> None:
    async def timed(app: Any) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await call(app)

    bare, wrapped = Cleaning(), Cleaning()
    await timed(bare.unshielded)
    await timed(wrap(wrapped.unshielded, budget=PATIENT))
    assert wrapped.log == bare.log == ["cleans up", "cleaned up"]


async def test_a_client_that_cancels_does_not_break_a_shield() -> None:
    cleaning, shielded = Cleaning(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with anyio.CancelScope(shield=True):
            shielded.set()
            await cleaning.may_end.wait()
            cleaning.log.append("committed")
        await anyio.sleep_forever()

    wrapped = wrap(app, budget=0)
    accepted = await call(wrapped)
    await shielded.wait()
    await call(wrapped, path_of(accepted), "DELETE")
    await let_end(cleaning)
    done = await follow(wrapped, accepted)
    assert (done.status, cleaning.log) == (410, ["committed"])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_application_that_cancels_its_own_handler_has_not_been_shut_down() -> None:
    runs = list[Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        runs.append(asyncio.current_task())
        await anyio.sleep_forever()

    wrapped = wrap(app)
    accepted = await call(wrapped)
    runs[0].cancel()
    done = await follow(wrapped, accepted)
    assert (done.status, b'"code":"exception"' in done.content) == (500, True)
    assert len(runs) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_application_that_cancels_one_handler_lets_the_others_go_on() -> None:
    event, tasks = anyio.Event(), dict[str, Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tasks[scope["path"]] = asyncio.current_task()
        await event.wait()
        await answer(send)

    wrapped = wrap(app)
    stopped, other = await call(wrapped, "/stopped"), await call(wrapped, "/other")
    tasks["/stopped"].cancel()
    assert (await follow(wrapped, stopped)).status == 500
    event.set()
    assert (await follow(wrapped, other)).content == b"done"


@pytest.mark.parametrize("path", ["/", "/again"])
def test_a_loop_that_cancels_all_its_tasks_is_taken_for_a_shutdown(path: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/again":
            await asyncio.sleep(0.01)
        await asyncio.sleep(PATIENT)

    wrapped = wrap(app, budget=0)

    async def once() -> Any:
        ended = await call(wrapped, "/ended", "DELETE")
        await asyncio.sleep(0.02)
        return ended, await call(wrapped, path)

    async def seen(accepted: Any) -> bytes:
        return (await call(wrapped, path_of(accepted))).content

    ended, released = asyncio.run(once())
    assert b'"code":"shutdown"' in asyncio.run(seen(ended))
    assert b'"status":"accepted"' in asyncio.run(seen(released))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_witness_looks_as_long_as_anybody_wants_to_know() -> None:
    witness, before = Witness(asyncio.get_running_loop()), asyncio.all_tasks()
    witness.attend()
    witness.attend()
    await anyio.lowlevel.checkpoint()
    witness.dismiss()
    assert len(asyncio.all_tasks() - before) == 1
    assert not witness.may_see_the_end
    witness.dismiss()
    await anyio.lowlevel.checkpoint()
    assert asyncio.all_tasks() == before
