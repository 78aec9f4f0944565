"""Clients that listen to an operation, on asyncio and trio."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

from raincheck.asgi import RaincheckMiddleware, event_streams
from raincheck.monitor import waiters as watching
from raincheck.monitor.events import HEARTBEAT
from raincheck.monitor.listeners import Listening
from tests.support.asgi import Call, call, engine_of, http_scope, path_of
from tests.support.wire import BODY, FailingStore, Handler, assert_problem
from tests.unit.test_events import parse

pytestmark = pytest.mark.anyio

STREAM = [(b"accept", b"text/event-stream")]
PATIENCE = 30.0  # seconds; less than anybody would wait in vain


class Store(FailingStore):
    """A store that counts reads, too."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get(self, operation_id: str) -> Any:
        self.reads += 1
        return super().get(operation_id)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def app(handler: Handler, store: Store) -> AsyncIterator[RaincheckMiddleware]:
    """Wrap the handler so that all its requests are deferred."""
    wrapped = RaincheckMiddleware(handler, store=store, budget=0)
    with anyio.fail_after(PATIENCE):
        yield wrapped
    handler.go.set()
    wrapped._gateway.monitor.close()
    engine_of(wrapped).close()


class Client(Call):
    """A client that listens."""

    @property
    def events(self) -> list[dict[str, str]]:
        """What it has heard, but for `retry`."""
        return [event for event in parse(self.content) if "data" in event]

    async def hears(self, number: int) -> list[dict[str, str]]:
        """Wait until it has heard so many events."""
        await self.until(lambda: len(self.events) >= number)
        return self.events

    async def hears_of(self, word: str) -> None:
        """Wait until the last event says it."""
        await self.until(lambda: word in self.events[-1]["data"])

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110 - no event tells
                await anyio.sleep(0.002)


def inner(app: Any) -> RaincheckMiddleware:
    while not isinstance(app, RaincheckMiddleware):
        app = app.app
    return app


@asynccontextmanager
async def listening(
    app: Any, path: str, number: int = 1, headers: Any = (), method: str = "GET"
) -> AsyncIterator[list[Client]]:
    """Have clients listen until the context ends; their streams are over then."""
    clients = [Client(app, http_scope(path, method, [*STREAM, *headers])) for _ in range(number)]
    watcher = inner(app)._gateway.monitor.watcher
    others = watcher.waiters
    async with anyio.create_task_group() as group:
        for each in clients:
            group.start_soon(each.run)
        with anyio.fail_after(PATIENCE):
            while watcher.waiters < others + number:  # noqa: ASYNC110 - no event tells
                await anyio.sleep(0.002)
        yield clients


async def say(app: RaincheckMiddleware, handler: Handler, step: int) -> None:
    """Let the handler tell how far it is, and this be stored at once."""
    handler.operation.progress(step, 10, f"step {step}")
    await anyio.to_thread.run_sync(engine_of(app).beat)


async def start(app: Any, handler: Handler, headers: Any = ()) -> str:
    path = path_of(await call(app, headers=headers))
    await handler.begun.wait()
    return path


@pytest.mark.parametrize("tail", ["", "/status"])
async def test_who_listens_hears_of_progress_and_of_the_end(
    app: RaincheckMiddleware, handler: Handler, tail: str
) -> None:
    path = await start(app, handler)
    async with listening(app, path + tail) as [client]:
        await client.hears(1)
        for step in (5, 6):
            await say(app, handler, step)
            await client.hears_of(f"step {step}")
        handler.go.set()
    assert client.status == 200
    assert client.events[-1]["event"] == "end"
    assert {event["event"] for event in client.events[:-1]} == {"status"}
    assert f'"resourceLocation":"http://testserver{path}"' in client.events[-1]["data"]
    ids = [event["id"] for event in client.events]
    assert len(set(ids)) == len(ids)
    assert (await call(app, path)).content == BODY


async def test_who_comes_again_hears_nothing_twice(
    app: RaincheckMiddleware, handler: Handler
) -> None:
    path = await start(app, handler)
    await say(app, handler, 5)
    async with listening(app, path) as [first]:
        [event] = await first.hears(1)
        first.leave()
    seen = [(b"last-event-id", event["id"].encode())]
    async with listening(app, path, headers=seen) as [second]:
        await say(app, handler, 6)
        await second.hears(1)
        handler.go.set()
    assert "step 6" in second.events[0]["data"]
    assert [event["event"] for event in second.events] == ["status", "end"]
    seen = [(b"last-event-id", second.events[-1]["id"].encode())]
    over = await call(app, path, headers=[*STREAM, *seen])
    assert (over.status, over.content) == (204, b"")
    anew = Client(app, http_scope(path, headers=STREAM))
    await anew.run()
    assert [event["event"] for event in anew.events] == ["end"]


async def test_one_read_tells_all_who_listen(
    app: RaincheckMiddleware, handler: Handler, store: Store
) -> None:
    path = await start(app, handler)
    await say(app, handler, 1)
    async with listening(app, path, 100) as clients:
        for each in clients:
            await each.hears(1)
        await anyio.sleep(0.05)  # what they themselves have looked for is over
        handler.operation.progress(2)
        before = store.reads
        await anyio.to_thread.run_sync(engine_of(app).beat)
        for each in clients:
            await each.hears_of('"completed":2')
        assert store.reads - before < 10
        handler.go.set()
    assert {each.events[-1]["event"] for each in clients} == {"end"}


async def test_who_does_not_read_keeps_nobody_else_waiting_and_misses_only_the_old(
    app: RaincheckMiddleware, handler: Handler
) -> None:
    path = await start(app, handler)
    reads, send = anyio.Event(), Client.send

    class Slow(Client):
        async def send(self, message: Any) -> None:
            await send(self, message)
            if b"step" in message.get("body", b""):
                await reads.wait()

    slow = [Slow(app, http_scope(path, headers=STREAM)) for _ in range(40)]
    async with anyio.create_task_group() as group:
        for each in slow:
            group.start_soon(each.run)
            await each.hears(1)
        async with listening(app, path, 40) as clients:
            for step in range(1, 6):
                await say(app, handler, step)
                for one in clients:
                    await one.hears_of(f"step {step}")
            heard = [len(each.events) for each in slow]
            handler.go.set()
        reads.set()
    for each in slow:
        assert [event["event"] for event in each.events[-1:]] == ["end"]
    assert [len(each.events) for each in slow] == [count + 1 for count in heard]


async def test_a_heartbeat_is_sent_to_who_hears_nothing(
    app: RaincheckMiddleware, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "HEARTBEAT_SECONDS", 0.02)
    path = await start(app, handler)
    async with listening(app, path) as [client]:
        await client.until(lambda: client.content.endswith(HEARTBEAT * 3))
        handler.go.set()
    assert client.events[-1]["event"] == "end"


# --- who does not listen -----------------------------------------------------------------------


async def test_head_is_told_the_header_fields_at_once(
    app: RaincheckMiddleware, handler: Handler
) -> None:
    path = await start(app, handler)
    answer = await call(app, path, "HEAD", STREAM)
    assert (answer.status, answer.content) == (200, b"")
    assert answer.header(b"content-type") == b"text/event-stream"


async def test_above_the_limit_a_client_is_told_how_things_are_and_to_come_again(
    handler: Handler, store: Store
) -> None:
    app = RaincheckMiddleware(handler, store=store, budget=0, limits={"pollers": 1})
    path = await start(app, handler)
    async with listening(app, path):
        answer = await call(app, path, headers=STREAM)
        [event] = parse(answer.content)
        assert (answer.status, event["event"]) == (200, "status")
        assert int(event["retry"]) >= 8000
        handler.go.set()
    engine_of(app).close()


async def test_who_was_told_to_come_again_may_listen_when_there_is_room(
    handler: Handler, store: Store
) -> None:
    app = RaincheckMiddleware(handler, store=store, budget=0, limits={"pollers": 0})
    path = await start(app, handler)
    assert parse((await call(app, path, headers=STREAM)).content)
    object.__setattr__(engine_of(app).limits, "pollers", 1)
    async with listening(app, path) as [client]:
        handler.go.set()
    assert client.events[-1]["event"] == "end"
    engine_of(app).close()


async def test_what_is_unknown_anothers_or_gone_is_an_error_and_no_stream(
    handler: Handler, store: Store
) -> None:
    def owner(scope: Any) -> str | None:
        return dict(scope["headers"]).get(b"x-user", b"").decode() or None

    app = RaincheckMiddleware(handler, store=store, budget=0, owner=owner)
    ann = [(b"x-user", b"ann")]
    path = await start(app, handler, ann)
    for other, who in ((path, []), ("/operations/" + "0" * 32, ann)):
        assert_problem(await call(app, other, headers=[*STREAM, *who]), 404, "not-found")
    async with listening(app, path, headers=ann) as [client]:
        handler.go.set()
    assert client.events[-1]["event"] == "end"
    assert (await call(app, path, "DELETE", ann)).status == 204
    assert_problem(await call(app, path, headers=[*STREAM, *ann]), 410, "gone")
    store.is_failing = True
    assert_problem(await call(app, path, headers=[*STREAM, *ann]), 503, "unavailable")
    store.is_failing = False
    engine_of(app).close()


async def test_a_stranger_hears_nothing_more_once_it_is_known_whose_it_is(store: Store) -> None:
    from raincheck import current_operation

    reached, known, go = anyio.Event(), anyio.Event(), anyio.Event()
    users: dict[bytes, str] = {}

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        operation = current_operation()
        reached.set()
        await known.wait()
        users[dict(scope["headers"])[b"x-token"]] = "ann"
        operation.progress(1, 2, "secret")
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": BODY})

    def owner(scope: Any) -> str | None:
        return users.get(dict(scope["headers"]).get(b"x-token", b""))

    app = RaincheckMiddleware(handle, store=store, budget=0, owner=owner)
    token = [(b"x-token", b"t")]
    path = path_of(await call(app, headers=token))
    await reached.wait()
    async with (
        listening(app, path) as [stranger],
        listening(app, path, headers=token) as [ann],
    ):
        await stranger.hears(1)
        await ann.hears(1)
        known.set()
        await ann.hears(2)
        go.set()
    assert b"secret" not in stranger.content
    assert {event["event"] for event in stranger.events} == {"status"}
    assert b"secret" in ann.content
    assert ann.events[-1]["event"] == "end"
    engine_of(app).close()


# --- ends of other kinds -----------------------------------------------------------------------


async def test_a_store_that_fails_for_a_while_ends_no_stream(
    app: RaincheckMiddleware, handler: Handler, store: Store
) -> None:
    path = await start(app, handler)
    async with listening(app, path) as [client]:
        await client.hears(1)
        store.is_failing = True
        store._tell(path.rpartition("/")[2])
        await anyio.sleep(0.05)
        store.is_failing = False
        await say(app, handler, 5)
        await client.hears_of("step 5")
        handler.go.set()
    assert client.events[-1]["event"] == "end"


async def until_nothing_is_left() -> None:
    """Wait until nobody holds who listens any more: a task may have to see that it is over."""
    with anyio.fail_after(PATIENCE):
        while any(type(thing) is Listening for thing in gc.get_objects()):
            await anyio.sleep(0.002)
            gc.collect()


async def test_a_client_that_leaves_frees_everything(
    app: RaincheckMiddleware, handler: Handler
) -> None:
    path = await start(app, handler)
    async with listening(app, path, 20) as clients:
        for each in clients:
            each.leave()
    assert [each.error for each in clients] == [None] * 20
    assert app._gateway.monitor.watcher.waiters == 0
    del clients, each
    await until_nothing_is_left()


async def test_a_server_that_ends_the_task_frees_everything(
    app: RaincheckMiddleware, handler: Handler
) -> None:
    path = await start(app, handler)
    async with anyio.create_task_group() as group:
        client = Client(app, http_scope(path, headers=STREAM))
        group.start_soon(client.run)
        await client.hears(1)
        group.cancel_scope.cancel()
    assert app._gateway.monitor.watcher.waiters == 0
    del client
    await until_nothing_is_left()


async def test_a_drain_lets_all_go_whether_they_read_or_not(handler: Handler, store: Store) -> None:
    app = RaincheckMiddleware(handler, store=store, budget=0, drain=PATIENCE)
    path = await start(app, handler)

    class Deaf(Client):
        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "http.response.body":
                await anyio.sleep_forever()

    deaf = Deaf(app, http_scope(path, headers=STREAM))
    async with anyio.create_task_group() as group, anyio.create_task_group() as streams:
        streams.start_soon(deaf.run)
        await deaf.hears(1)
        async with listening(app, path) as [client]:
            await client.hears(1)
            group.start_soon(app._gateway.running.drain)
        assert client.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
        handler.go.set()
    assert app._gateway.monitor.watcher.waiters == 0


async def test_while_a_server_stops_nobody_listens(
    app: RaincheckMiddleware, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "TICK", 0.01)
    path = await start(app, handler)
    async with listening(app, path) as [client]:
        around = watching.Surroundings(is_stopping=lambda: True)
        [listener] = app._gateway.monitor.watcher._listener._of.values()
        listener._around = around
    assert {event["event"] for event in client.events} == {"status"}
    assert client.sent[-1]["more_body"] is False


async def test_who_has_listened_for_long_is_told_to_come_again(
    app: RaincheckMiddleware, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "LONGEST_SECONDS", 0.0)
    path = await start(app, handler)
    client = Client(app, http_scope(path, "GET", STREAM))
    async with anyio.create_task_group() as group:
        group.start_soon(client.run)
        await client.hears(1)
        await say(app, handler, 5)
        await client.until(lambda: client.sent[-1].get("more_body") is False)
    last = client.content.rstrip(b"\n").rpartition(b"\n")[2]
    assert 1000 <= int(last.removeprefix(b"retry: ")) <= 4000
    handler.go.set()


# --- other middleware ---------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["gzip", "base"])
async def test_middleware_around_holds_nothing_back(
    app: RaincheckMiddleware, handler: Handler, around: str
) -> None:
    async def through(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    outer: Any = (
        GZipMiddleware(app, minimum_size=0)
        if around == "gzip"
        else BaseHTTPMiddleware(app, dispatch=through)
    )
    path = await start(app, handler)
    async with listening(outer, path, headers=[(b"accept-encoding", b"gzip")]) as [client]:
        await client.hears(1)
        await say(app, handler, 5)
        await client.hears_of("step 5")
        handler.go.set()
    assert client.events[-1]["event"] == "end"


async def test_a_client_that_leaves_base_http_middleware_is_let_go(
    app: RaincheckMiddleware, handler: Handler
) -> None:
    async def through(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    path = await start(app, handler)
    async with listening(BaseHTTPMiddleware(app, dispatch=through), path) as [client]:
        await client.hears(1)
        client.leave()
    await client.until(lambda: not app._gateway.monitor.watcher.waiters)
