"""Polls that come at about the same time share a look at the store, on asyncio and trio."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from raincheck.asgi import RaincheckMiddleware, store_threads
from raincheck.asgi.gathering import Gatherer
from raincheck.asgi.loops import running_loop
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.monitor.listeners import Seen
from raincheck.operations.operation import Operation
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import Call, call, engine_of, follow, http_scope, path_of
from tests.support.wire import BODY, Handler, assert_problem, wrap

pytestmark = pytest.mark.anyio
MANY = 20


class RemoteStore(MemoryStore):
    """A store that has nothing at hand, and is asked for many operations as for one."""

    glance = glance_at_chunk = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[set[str]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.failure: Exception | None = None
        self.unreadable = ""

    def get_all(self, operation_ids: Collection[str]) -> dict[str, Operation]:
        self.looks.append(set(operation_ids))
        self.may_answer.wait(30)
        if self.failure is not None:
            raise self.failure
        found = {name: super(RemoteStore, self).get(name) for name in operation_ids}
        return {name: one for name, one in found.items() if one and name != self.unreadable}

    def get(self, operation_id: str) -> Operation | None:
        if operation_id == self.unreadable:
            raise StoreError("it can't be read")
        return super().get(operation_id)


@pytest.fixture
def store() -> Iterator[RemoteStore]:
    store = RemoteStore()
    yield store
    store.may_answer.set()


def around(handler: Handler, store: RemoteStore, **options: Any) -> RaincheckMiddleware:
    return RaincheckMiddleware(handler, store=store, budget=0, application="tests", **options)


async def poll_all(app: RaincheckMiddleware, paths: list[str]) -> list[Call]:
    """Poll all paths at the same time."""
    calls = [Call(app, http_scope(path)) for path in paths]
    async with anyio.create_task_group() as group:
        for each in calls:
            group.start_soon(each.run)
    return calls


async def test_polls_that_come_together_share_looks(handler: Handler, store: RemoteStore) -> None:
    app = around(handler, store)
    paths = [path_of(await call(app, "/thing")) for _ in range(MANY)]
    store.looks.clear()
    assert [each.status for each in await poll_all(app, paths)] == [202] * MANY
    assert set().union(*store.looks) == {path.rpartition("/")[2] for path in paths}
    assert len(store.looks) < MANY / 2


async def test_what_comes_while_the_store_is_asked_is_looked_for_next(
    handler: Handler, store: RemoteStore
) -> None:
    app = around(handler, store)
    paths = [path_of(await call(app, "/thing")) for _ in range(3)]
    store.looks.clear()
    store.may_answer.clear()
    calls = [Call(app, http_scope(path)) for path in paths]
    async with anyio.create_task_group() as group:
        for n, each in enumerate(calls, 1):
            group.start_soon(each.run)
            while len(store.looks) < min(n, 2):  # noqa: ASYNC110 - a thread tells nobody
                await anyio.sleep(0.001)
        store.may_answer.set()
    assert [each.status for each in calls] == [202] * 3
    assert [len(look) for look in store.looks] == [1, 1, 1]


async def test_a_response_comes_back_whole_and_once_more(
    handler: Handler, store: RemoteStore
) -> None:
    app = around(handler, store)
    accepted = await call(app, "/thing")
    handler.go.set()
    assert (await follow(app, accepted)).content == BODY
    again = await call(app, path_of(accepted))
    part = await call(app, path_of(accepted), headers=[(b"range", b"bytes=1-2")])
    assert (again.content, part.content) == (BODY, BODY[1:3])
    assert (await call(app, path_of(accepted), "DELETE")).status == 204
    assert (await call(app, path_of(accepted))).status == 410


async def test_a_change_by_others_is_seen_by_the_next_poll(
    handler: Handler, store: RemoteStore
) -> None:
    app, other = around(handler, store), around(Handler(), store)
    path = path_of(await call(app, "/thing"))
    assert [(await call(app, path)).status for _ in range(2)] == [202, 202]
    handler.go.set()
    while (await call(app, path)).status == 202:  # noqa: ASYNC110 - as a client does
        await anyio.sleep(0.001)
    assert (await call(other, path, "DELETE")).status == 204
    assert (await call(app, path)).status == 410


async def test_nobody_else_sees_what_belongs_to_one(handler: Handler, store: RemoteStore) -> None:
    def owner(scope: Any) -> str | None:
        value = dict(scope["headers"]).get(b"x-user")
        return None if value is None else str(value, "ascii")

    app = around(handler, store, owner=owner)
    ann, bob = [(b"x-user", b"ann")], [(b"x-user", b"bob")]
    path = path_of(await call(app, "/thing", headers=ann))
    assert (await call(app, path, headers=ann)).status == 202
    assert_problem(await call(app, path, headers=bob), 404, "not-found")
    assert_problem(await call(app, path), 404, "not-found")
    assert (await call(app, path, headers=ann)).status == 202


async def test_an_unknown_operation_is_not_found(handler: Handler, store: RemoteStore) -> None:
    assert_problem(await call(around(handler, store), f"/operations/{'0' * 32}"), 404, "not-found")


async def test_one_that_cannot_be_read_costs_the_others_nothing(
    handler: Handler, store: RemoteStore
) -> None:
    app = around(handler, store)
    paths = [path_of(await call(app, "/thing")) for _ in range(3)]
    store.unreadable = paths[1].rpartition("/")[2]
    assert [each.status for each in await poll_all(app, paths)] == [202, 503, 202]


@pytest.mark.parametrize("failure", [StoreUnavailable("it is down"), ZeroDivisionError()])
async def test_while_the_store_fails_every_poll_is_told_so(
    handler: Handler, store: RemoteStore, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    app = around(handler, store)
    paths = [path_of(await call(app, "/thing")) for _ in range(3)]
    store.failure = failure
    with caplog.at_level(logging.ERROR):
        assert [each.status for each in await poll_all(app, paths)] == [503] * 3
    assert caplog.records
    store.failure = None
    engine_of(app).health.reads._refused.clear()
    assert (await call(app, paths[0])).status == 202


async def test_a_client_that_leaves_takes_no_other_poll_with_it(
    handler: Handler, store: RemoteStore
) -> None:
    app = around(handler, store)
    path = path_of(await call(app, "/thing"))
    store.looks.clear()
    store.may_answer.clear()
    stays = Call(app, http_scope(path))
    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(Call(app, http_scope(path)).run)
            while not store.looks:  # noqa: ASYNC110 - a thread tells nobody
                await anyio.sleep(0.001)
            group.start_soon(stays.run)
            await anyio.lowlevel.checkpoint()
            leaving.cancel_scope.cancel()
        store.may_answer.set()
    assert stays.status == 202


async def test_at_hand_nothing_is_gathered(handler: Handler) -> None:
    app = wrap(handler)
    path = path_of(await call(app, "/thing"))
    assert (await call(app, path)).status == 202
    assert app._gateway.status._gatherer is None


@pytest.mark.parametrize("error", [RuntimeError("no thread"), OSError("no descriptor")])
async def test_a_look_that_cannot_begin_is_told_to_all_who_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fail(*_: Any) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    async def see(name: str) -> None:
        seen[name] = await gatherer.see(name)

    loop, seen = running_loop(None), dict[str, Seen]()
    monkeypatch.setattr(loop, "look", fail)
    gatherer = Gatherer(loop, lambda _: {})
    names = [f"{n}" for n in range(5)]
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(see, name)
    told = [str(seen[name].failure) for name in names]
    assert told == [f"polls can't be answered now: {error}"] * len(names)


async def test_polls_do_not_wait_for_those_who_read_responses() -> None:
    loop, may_end = running_loop(None), threading.Event()
    gatherer = Gatherer(loop, lambda names: {name: Seen(now=1.0) for name in names})
    async with anyio.create_task_group() as group:
        for _ in range(store_threads._AT_ONCE):
            group.start_soon(loop.read, may_end.wait, 30)
        try:
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(10):
                assert (await gatherer.see("this")).now == 1.0
        finally:
            may_end.set()


@pytest.mark.parametrize("method", ["glance", "glance_at_chunk"])
async def test_a_defect_of_a_glance_is_no_answer_to_a_poll(
    handler: Handler, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fail(*_: object) -> None:
        raise TypeError("a defect")

    store = MemoryStore()
    monkeypatch.setattr(store, method, fail)
    app = RaincheckMiddleware(handler, store=store, budget=0, application="tests")
    accepted = await call(app, "/thing")
    handler.go.set()
    done = await follow(app, accepted)
    assert (done.error, done.content) == (None, BODY)
