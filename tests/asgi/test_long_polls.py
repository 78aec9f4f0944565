"""Clients that wait for the end of an operation, on asyncio and trio."""

from __future__ import annotations

import gc
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from raincheck.asgi import RaincheckMiddleware
from raincheck.monitor import waiters as watching
from raincheck.monitor.listeners import Waiter
from raincheck.stores.memory import MemoryStore
from raincheck.stores.sqlite import SQLiteStore
from tests.support.asgi import Call, call, engine_of, http_scope, path_of
from tests.support.wire import BODY, FailingStore, Handler, assert_problem, document

pytestmark = pytest.mark.anyio

LONG = [(b"prefer", b"wait=90")]
PATIENCE = 30.0  # seconds; less than anybody would wait in vain
TAILS = ["", "/status", "/result"]
CLIENTS = 1_000


class Store(FailingStore):
    """A store that tells how often it is watched, too."""

    def __init__(self) -> None:
        super().__init__()
        self.watches = 0
        self.listening = threading.Event()
        self.listening.set()

    def watch(self, interval: float) -> Generator[str | None, None, None]:
        self.watches += 1
        self.listening.wait(PATIENCE)
        return super().watch(interval)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def app(handler: Handler, store: Store) -> AsyncIterator[RaincheckMiddleware]:
    """Wrap the handler so that all its requests are deferred."""
    wrapped = RaincheckMiddleware(handler, store=store, budget=0, max_wait=90)
    with anyio.fail_after(PATIENCE):
        yield wrapped
    wrapped._gateway.monitor.close()
    engine_of(wrapped).close()


@pytest.fixture
def impatient(handler: Handler) -> Iterator[RaincheckMiddleware]:
    """Wrap the handler so that nobody waits for long."""
    wrapped = RaincheckMiddleware(handler, store=MemoryStore(), budget=0, max_wait=0.05)
    yield wrapped
    engine_of(wrapped).close()


def waiters(app: RaincheckMiddleware) -> int:
    """Count who waits."""
    return app._gateway.monitor.watcher.waiters


async def until_waiting(app: RaincheckMiddleware, count: int = 1) -> None:
    """Wait until so many wait, and nobody is about to read anything."""
    with anyio.fail_after(PATIENCE):
        while waiters(app) != count:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)


@asynccontextmanager
async def polling(
    app: RaincheckMiddleware, *targets: tuple[str, str], headers: Any = LONG
) -> AsyncIterator[list[Call]]:
    """Have clients poll (method, path) until the context ends; their answers are complete then."""
    calls = [Call(app, http_scope(path, method, headers)) for method, path in targets]
    others = waiters(app)
    async with anyio.create_task_group() as group:
        for each in calls:
            group.start_soon(each.run)
        await until_waiting(app, others + len(calls))
        yield calls


# --- the end, and the end of time --------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_whoever_waits_is_answered_when_the_operation_ends(
    app: RaincheckMiddleware, handler: Handler, method: str
) -> None:
    path = path_of(await call(app))
    async with polling(app, *((method, path + tail) for tail in TAILS)) as calls:
        assert [each.sent for each in calls] == [[], [], []]
        handler.go.set()
    response, status, result = calls
    body = BODY if method == "GET" else b""
    assert (response.status, response.content) == (200, body)
    assert (result.status, result.content) == (200, body)
    assert status.status == 200
    if method == "GET":
        assert document(status)["status"] == "succeeded"
    for each in calls:
        assert each.header(b"preference-applied") == b"wait=90"
        assert each.header(b"vary") is None
    assert waiters(app) == 0


async def test_the_answer_is_that_of_a_plain_poll_but_for_the_preference(
    app: RaincheckMiddleware, handler: Handler
) -> None:
    path = path_of(await call(app))
    async with polling(app, ("GET", path)) as [waited]:
        handler.go.set()
    plain = await call(app, path)
    assert waited.headers == [*plain.headers, (b"preference-applied", b"wait=90")]


async def test_after_the_longest_wait_the_answer_is_what_there_is(
    impatient: RaincheckMiddleware, handler: Handler
) -> None:
    path = path_of(await call(impatient))
    begin = time.monotonic()
    calls = [Call(impatient, http_scope(path + tail, headers=LONG)) for tail in TAILS]
    async with anyio.create_task_group() as group:  # they need not wait at the same time
        for each in calls:
            group.start_soon(each.run)
    assert 0.05 <= time.monotonic() - begin < PATIENCE
    response, status, result = calls
    assert response.status == 202
    assert document(status)["status"] == "running"
    assert_problem(result, 404, "result-not-ready")
    for each in calls:
        assert each.header(b"preference-applied") == b"wait=0.05"
        assert int(each.header(b"retry-after") or 0) >= 1
    handler.go.set()


@pytest.mark.parametrize(("asked", "applied"), [(b"1", b"wait=1"), (b"2", b"wait=1.25")])
async def test_nobody_waits_longer_than_was_asked_for(
    handler: Handler, asked: bytes, applied: bytes
) -> None:
    app = RaincheckMiddleware(handler, store="memory:", budget=0, max_wait=1.25)
    path, begin = path_of(await call(app)), time.monotonic()
    answer = await call(app, path, headers=[(b"prefer", b"wait=" + asked)])
    assert time.monotonic() - begin >= float(applied.removeprefix(b"wait="))
    assert (answer.status, answer.header(b"preference-applied")) == (202, applied)
    handler.go.set()


async def test_who_is_told_that_nothing_has_changed_has_waited_for_the_end(
    app: RaincheckMiddleware, handler: Handler
) -> None:
    path = path_of(await call(app)) + "/status"
    etag = (await call(app, path)).header(b"etag") or b""
    headers = [*LONG, (b"if-none-match", etag)]
    async with polling(app, ("GET", path), headers=headers) as [answer]:
        handler.go.set()
    assert (answer.status, document(answer)["status"]) == (200, "succeeded")


async def test_a_cancellation_ends_the_waiting_when_the_handler_has_stopped(
    app: RaincheckMiddleware,
) -> None:
    path = path_of(await call(app))
    async with polling(app, ("GET", path)) as [answer]:
        assert (await call(app, path, "DELETE")).status == 202
    assert_problem(answer, 410, "canceled")


# --- who does not wait -------------------------------------------------------------------------


async def test_nobody_waits_for_what_has_ended(
    app: RaincheckMiddleware, handler: Handler, store: Store
) -> None:
    path = path_of(await call(app))
    async with polling(app, ("GET", path)):
        handler.go.set()
    watches = store.watches
    for tail in TAILS:
        answer = await call(app, path + tail, headers=LONG)
        assert (answer.status, answer.header(b"preference-applied")) == (200, None)
    assert (await call(app, path, "DELETE", headers=LONG)).status == 204
    assert_problem(await call(app, path, headers=LONG), 410, "gone")
    assert store.watches == watches


@pytest.mark.parametrize(
    ("method", "tail", "headers", "status"),
    [
        ("GET", "", (), 202),
        ("GET", "", [(b"prefer", b"wait=0")], 202),
        ("GET", "", [(b"prefer", b"wait=soon, respond-async")], 202),
        ("DELETE", "", LONG, 202),
        ("POST", "", LONG, 405),
        ("GET", "/status", [*LONG, (b"accept", b"image/png")], 406),
        ("GET", "/status", [*LONG, (b"if-match", b'"another"')], 412),
    ],
)
async def test_who_is_answered_at_once_costs_no_watch(
    app: RaincheckMiddleware, store: Store, method: str, tail: str, headers: Any, status: int
) -> None:
    path = path_of(await call(app)) + tail
    answer = await call(app, path, method, headers)
    assert (answer.status, answer.header(b"preference-applied")) == (status, None)
    assert store.watches == 0


@pytest.mark.parametrize("tail", TAILS)
async def test_what_is_unknown_or_anothers_is_not_waited_for(
    handler: Handler, store: Store, tail: str
) -> None:
    def owner(scope: Any) -> str | None:
        return dict(scope["headers"]).get(b"x-user", b"").decode() or None

    app = RaincheckMiddleware(handler, store=store, budget=0, owner=owner)
    path = path_of(await call(app, headers=[(b"x-user", b"ann")]))
    for other in (path, "/operations/" + "0" * 32):
        for user in ([], [(b"x-user", b"bob")]):
            answer = await call(app, other + tail, headers=[*LONG, *user])
            assert_problem(answer, 404, "not-found")
            assert answer.header(b"preference-applied") is None
    assert store.watches == 0
    engine_of(app).close()


async def test_above_the_limit_of_pollers_a_poll_is_answered_at_once(
    handler: Handler, store: Store
) -> None:
    limits = {"pollers": 2}
    app = RaincheckMiddleware(handler, store=store, budget=0, max_wait=90, limits=limits)
    path = path_of(await call(app))
    leaving = Call(app, http_scope(path, headers=LONG))
    async with anyio.create_task_group() as group:
        group.start_soon(leaving.run)
        await until_waiting(app)
        async with polling(app, ("GET", path)) as [staying]:
            answer = await call(app, path, headers=LONG)
            assert (answer.status, answer.header(b"preference-applied")) == (202, None)
            leaving.leave()
            await until_waiting(app, 1)
            async with polling(app, ("GET", path)) as [late]:
                handler.go.set()
    assert [staying.status, late.status] == [200, 200]
    engine_of(app).close()


# --- hints are only hints ----------------------------------------------------------------------


async def test_an_end_before_the_watch_listens_is_not_missed(
    app: RaincheckMiddleware, handler: Handler, store: Store
) -> None:
    path = path_of(await call(app))
    store.listening.clear()
    async with polling(app, ("GET", path)) as [answer]:
        handler.go.set()
        await handler.ended.wait()
        while engine_of(app).is_busy:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)
        assert not answer.sent
        store.listening.set()
    assert (answer.status, answer.content) == (200, BODY)


async def test_an_end_that_no_watch_tells_of_is_seen_all_the_same(
    app: RaincheckMiddleware, handler: Handler, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "REREAD", 0.05)
    monkeypatch.setattr(watching, "TICK", 0.01)
    monkeypatch.setattr(store, "_tell", lambda operation_id: None)
    path = path_of(await call(app))
    async with polling(app, ("GET", path)) as [answer]:
        handler.go.set()
    assert (answer.status, answer.content) == (200, BODY)


async def test_news_that_are_no_end_end_no_waiting(
    app: RaincheckMiddleware, handler: Handler
) -> None:
    path = path_of(await call(app))
    async with polling(app, ("GET", path)) as [answer]:
        for n in range(3):
            handler.operation.progress(n, 4, "going on")
            engine_of(app).beat()
        assert not answer.sent
        handler.go.set()
    assert answer.status == 200


async def test_a_store_that_fails_while_somebody_waits_is_a_503(
    app: RaincheckMiddleware, handler: Handler, store: Store
) -> None:
    path = path_of(await call(app))
    async with polling(app, ("GET", path)) as [answer]:
        store.is_failing = True
        store._tell(path.rpartition("/")[2])
    assert_problem(answer, 503, "unavailable")
    assert answer.header(b"preference-applied") is None
    assert int(answer.header(b"retry-after") or 0) >= 1
    store.is_failing = False
    handler.go.set()


# --- ends of other kinds -----------------------------------------------------------------------


async def test_a_server_that_ends_the_task_frees_everything(app: RaincheckMiddleware) -> None:
    path = path_of(await call(app))
    async with anyio.create_task_group() as group:
        group.start_soon(Call(app, http_scope(path, headers=LONG)).run)
        await until_waiting(app)
        group.cancel_scope.cancel()
    assert waiters(app) == 0
    await until_nothing_is_left()


async def test_a_drain_answers_whoever_waits_at_once(handler: Handler, store: Store) -> None:
    app = RaincheckMiddleware(handler, store=store, budget=0, drain=PATIENCE)
    path = path_of(await call(app))
    async with anyio.create_task_group() as group:
        async with polling(app, ("GET", path), ("GET", path + "/status")) as calls:
            group.start_soon(app._gateway.running.drain)
        assert [each.status for each in calls] == [202, 200]
        assert waiters(app) == 0
        handler.go.set()


async def test_while_a_server_stops_nobody_waits(
    app: RaincheckMiddleware, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "TICK", 0.01)
    path = path_of(await call(app))
    async with polling(app, ("GET", path)) as [answer]:
        around = watching.Surroundings(is_stopping=lambda: True)
        [listener] = app._gateway.monitor.watcher._listener._of.values()
        listener._around = around
    assert (answer.status, answer.header(b"preference-applied")) == (202, b"wait=90")
    handler.go.set()


# --- clients that leave ------------------------------------------------------------------------


async def test_a_client_that_leaves_frees_everything_at_once(app: RaincheckMiddleware) -> None:
    path = path_of(await call(app))
    clients = [Call(app, http_scope(path + tail, headers=LONG)) for tail in TAILS]
    async with anyio.create_task_group() as group:
        for client in clients:
            group.start_soon(client.run)
        await until_waiting(app, len(clients))
        for client in clients:
            client.leave()
    assert [client.error for client in clients] == [None, None, None]
    assert waiters(app) == 0
    del client, clients
    await until_nothing_is_left()


async def test_a_server_that_fails_to_receive_has_no_client(app: RaincheckMiddleware) -> None:
    path = path_of(await call(app))

    async def receive() -> Any:
        raise OSError("the connection is gone")

    client: Any = Call(app, http_scope(path, headers=LONG))
    client.receive = receive
    await client.run()
    assert client.error is None
    assert waiters(app) == 0


async def test_a_request_body_is_no_sign_of_leaving(
    app: RaincheckMiddleware, handler: Handler
) -> None:
    path = path_of(await call(app))
    client = Call(app, http_scope(path, headers=LONG), body=[b"x"] * 3)
    async with anyio.create_task_group() as group:
        group.start_soon(client.run)
        await until_waiting(app)
        handler.go.set()
    assert (client.status, client.content) == (200, BODY)


# --- many --------------------------------------------------------------------------------------


async def until_nothing_is_left() -> None:
    """Wait until nobody holds a waiter any more: a task may have to see that it is cancelled."""
    with anyio.fail_after(PATIENCE):
        while any(type(thing) is Waiter for thing in gc.get_objects()):
            await anyio.sleep(0.002)
            gc.collect()


@pytest.mark.load
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_thousand_clients_can_wait_without_a_thread_of_their_own(
    handler: Handler, kind: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "operations.db")
    app = RaincheckMiddleware(handler, store=store, budget=0, max_wait=60)
    path = path_of(await call(app))
    async with polling(app, ("GET", path)):  # so that every thread that there will be is there
        gc.collect()
        tracemalloc.start()
        before, threads = tracemalloc.get_traced_memory()[0], threading.active_count()
        headers = [(b"prefer", b"wait=60")]
        calls = [Call(app, http_scope(path, headers=headers)) for _ in range(CLIENTS)]
        servers = tracemalloc.get_traced_memory()[0] - before
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for each in calls:
                    group.start_soon(each.run)
                while waiters(app) <= CLIENTS:  # noqa: ASYNC110 - no event tells
                    await anyio.sleep(0.01)
                gc.collect()
                used = tracemalloc.get_traced_memory()[0] - before - servers
                tracemalloc.stop()
                # Those of polls, and of what they ask the store; a timer.
                assert threading.active_count() - threads <= 2 * 16 + 2
                begin = time.monotonic()
                handler.go.set()
        took = time.monotonic() - begin
    assert [each.content == BODY for each in calls] == [True] * CLIENTS
    with capsys.disabled():
        size = used / CLIENTS
        sys.stdout.write(f"\n{kind}: {size:.0f} bytes per client, all answered in {took:.2f} s\n")
    assert used / CLIENTS < 32 * 1024
    assert waiters(app) == 0
    del calls
    await until_nothing_is_left()
    app._gateway.monitor.close()
    engine_of(app).close()
