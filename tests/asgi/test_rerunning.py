"""Requests that are run again because their process was lost, by the ASGI gateway."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from raincheck import is_rerun, long_running
from raincheck.asgi import RaincheckMiddleware
from raincheck.contracts import REQUEST_FENCE, Filter
from raincheck.engine import heartbeat
from raincheck.errors import BodyMissing, StoreUnavailable
from raincheck.starlette import monitor_routes, status_url
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import (
    PATIENT,
    Call,
    call,
    engine_of,
    follow,
    http_scope,
    inside,
    lose,
    path_of,
    recover,
)
from tests.support.handlers import answer, read_body, until_deferred, wrap

pytestmark = pytest.mark.anyio


class Handler:
    """Answers at its second run only; says what it was given in each."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.begun = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.runs.append(scope | {"body": body, "is_rerun": is_rerun()})
        self.begun.set()
        if len(self.runs) == 1:
            await anyio.sleep_forever()
        headers = [(b"x-a", b"1"), (b"x-a", b"2"), (b"set-cookie", b"no=1")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(reversed(body))})


@pytest.fixture(autouse=True)
def no_marks_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raincheck.handler.marking._known_markings", set())


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("budget", [0, 0.05])
@pytest.mark.parametrize("size", [0, 10, 3_000_000])
async def test_a_request_is_run_again_as_it_came(
    handler: Handler, store: MemoryStore, budget: float, size: int
) -> None:
    options: dict[str, Any] = {"store": store, "retry": {"/**": True}}
    first, second = wrap(handler, budget=budget, **options), wrap(handler, **options)
    body = [bytes(range(250)) * (size // 500)] * 2
    headers = [(b"content-length", b"%d" % size), (b"x-own", b"\xff"), (b"x-own", b"2")]
    accepted = await call(first, "/a%20b", "PUT", headers, body, query_string=b"q=%31")
    await handler.begun.wait()
    await lose(first)
    waiting = await call(second, path_of(accepted))
    assert (waiting.status, b'"accepted"' in waiting.content) == (202, True)
    await recover(second)
    done = await follow(second, accepted)
    assert (done.status, done.content) == (201, bytes(reversed(b"".join(body))))
    assert [v for n, v in done.headers if n == b"x-a"] == [b"1", b"2"]
    once, again = handler.runs
    for name in ("method", "path", "raw_path", "query_string", "headers", "scheme", "body"):
        assert once[name] == again[name]
    assert (once["is_rerun"], again["is_rerun"]) == (False, True)


async def test_a_handler_that_is_not_to_be_run_twice_is_not(
    handler: Handler, store: MemoryStore
) -> None:
    first, second = wrap(handler, store=store), wrap(handler, store=store)
    accepted = await call(first, "/", "POST")
    await handler.begun.wait()
    await lose(first)
    await recover(second)
    done = await call(second, path_of(accepted))
    assert (done.status, b"shutdown" in done.content, len(handler.runs)) == (500, True, 1)


@pytest.mark.parametrize(
    ("retry", "method", "runs"), [(True, "POST", 2), (False, "GET", 1), (None, "GET", 2)]
)
@pytest.mark.parametrize("budget", [0, 60, None])
async def test_a_mark_says_whether_a_handler_may_be_run_again(
    store: MemoryStore, retry: bool | None, method: str, runs: int, budget: float | None
) -> None:
    begun, seen = anyio.Event(), list[str]()

    @long_running(retry=retry)
    async def marked(request: Request) -> Response:
        seen.append((await request.body()).decode())
        begun.set()
        if len(seen) == 1:
            await anyio.sleep_forever()
        return Response("again")

    app = Starlette(routes=[Route("/", marked, methods=[method])])
    first, second = (wrap(app, store=store, budget=budget) for _ in range(2))
    headers = [(b"content-length", b"4")]
    accepted = await call(first, "/", method, headers, [b"bo", b"dy"])
    await begun.wait()
    await lose(first)
    await recover(second)
    done = await follow(second, accepted)
    assert seen == ["body"] * runs
    assert done.status == (200 if runs == 2 else 500)


async def test_a_rule_says_it_for_others(handler: Handler, store: MemoryStore) -> None:
    rule = {"/again/*": True, "/**": False}
    first, second = (wrap(handler, store=store, retry=rule) for _ in range(2))
    accepted = await call(
        first, "/again/1", "POST", body=[b"x"], headers=[(b"content-length", b"1")]
    )
    await handler.begun.wait()
    await lose(first)
    await recover(second)
    assert (await follow(second, accepted)).status == 201


async def test_a_handler_is_begun_as_often_as_it_may_be(store: MemoryStore) -> None:
    runs = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal runs
        runs += 1
        await anyio.sleep_forever()

    wrapped = wrap(app, store=store, max_attempts=2)
    accepted = await call(wrapped)
    for _ in range(4):
        await recover(wrapped)
        await lose(wrapped)
    assert (await call(wrapped, path_of(accepted))).status == 500
    assert runs == 2


async def test_no_client_can_pretend_to_be_a_rerun(store: MemoryStore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse(is_rerun())(scope, receive, send)

    names = ("x-raincheck-replay", "raincheck", "x-is-replay", "prefer", "via")
    headers = [(name.encode(), b"replay") for name in names]
    wrapped = wrap(app, store=store, budget=60)
    assert (await call(wrapped, "/", headers=headers)).content == b"false"


async def test_a_rerun_goes_through_the_whole_application_and_its_start_up_is_not_repeated(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "RECOVER", 0.1)
    starts, begun, seen = list[str](), anyio.Event(), list[Any]()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        starts.append("started")
        yield {"pool": "open"}

    async def report(request: Request) -> Response:
        seen.append((request.session, request.state.pool, request.app))
        begun.set()
        if len(seen) == 1:
            await anyio.sleep_forever()
        return Response("done")

    def build() -> Starlette:
        # Sessions are outside of raincheck: the handler needs what they put into the scope.
        middleware = [
            Middleware(SessionMiddleware, secret_key="s"),  # noqa: S106
            Middleware(RaincheckMiddleware, store=store, budget=0, drain=0.01),
        ]
        return Starlette(routes=[Route("/", report)], middleware=middleware, lifespan=lifespan)

    async def serve(app: Starlette, task_status: Any) -> None:
        inbox, started = anyio.create_memory_object_stream[Any](2), anyio.Event()

        async def send(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                started.set()

        state: dict[str, Any] = {}
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
        async with inbox[0], inbox[1], anyio.create_task_group() as group:
            await inbox[0].send({"type": "lifespan.startup"})
            group.start_soon(app, scope, inbox[1].receive, send)
            await started.wait()
            task_status.started((state, inbox[0]))

    async with anyio.create_task_group() as group:
        apps = [build(), build()]
        (state, stop), _ = [await group.start(serve, app) for app in apps]
        accepted = await Call(apps[0], http_scope("/", state=state.copy())).run()
        assert accepted.status == 202
        await begun.wait()
        await stop.send({"type": "lifespan.shutdown"})
        with anyio.fail_after(PATIENT):
            while len(seen) < 2:  # noqa: ASYNC110 - its heartbeat takes it up
                await anyio.sleep(0.02)
        group.cancel_scope.cancel()
    assert seen[1] == ({}, "open", apps[1])
    assert starts == ["started", "started"]


async def test_a_rerun_where_the_middleware_is_around_the_application(
    handler: Handler, store: MemoryStore
) -> None:
    def build() -> RaincheckMiddleware:
        return wrap(Starlette(routes=[Mount("/in", app=handler)]), store=store)

    first, second = build(), build()
    accepted = await call(first, "/in/side")
    await handler.begun.wait()
    await lose(first)
    await recover(second)
    assert (await follow(second, accepted)).status == 201
    assert handler.runs[0]["path"] == handler.runs[1]["path"]


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("framework", [Starlette, FastAPI])
@pytest.mark.parametrize("monitored", [False, True])
async def test_a_rerun_comes_in_from_outside_whatever_mounted_applications_have_deferred(
    store: MemoryStore, framework: type[Starlette], monitored: bool
) -> None:
    outside, seen = list[str](), list[bool]()

    class Guard:
        """What must see every request, those that are run again too."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/top":
                outside.append(scope["path"])
            await self.app(scope, receive, send)

    async def top(request: Request) -> Response:
        seen.append(request.app is app)
        if not is_rerun():
            await anyio.sleep_forever()
        return Response("again")

    async def below(request: Request) -> Response:
        await until_deferred()
        return Response()

    monitor = Mount("/pending", routes=monitor_routes())
    mounted = framework(routes=[Route("/slow", below), monitor])
    options: dict[str, Any] = {"status_url": status_url} if monitored else {}
    raincheck = Middleware(RaincheckMiddleware, store=store, budget=0.02, **options)
    app = framework(
        routes=[Route("/top", top), Mount("/sub", app=mounted)],
        middleware=[Middleware(Guard), raincheck],
    )
    if monitored:
        assert (await call(app, f"/sub/pending/{'0' * 32}")).status == 404
    accepted = await call(app, "/top")
    inner = inside(app)
    await lose(inner)
    assert (await call(app, "/sub/slow")).status == 202
    await recover(inner)
    assert (await follow(app, accepted)).content == b"again"
    assert (outside, seen) == (["/top", "/top"], [True, True])


@pytest.mark.usefixtures("by_hand")
async def test_what_is_cancelled_while_it_waits_is_not_run_again(
    handler: Handler, store: MemoryStore
) -> None:
    first, second = wrap(handler, store=store), wrap(handler, store=store)
    accepted = await call(first)
    await handler.begun.wait()
    await lose(first)
    assert (await call(second, path_of(accepted), "DELETE")).status == 202
    await recover(second)
    assert (await call(second, path_of(accepted))).status == 410
    assert len(handler.runs) == 1


async def test_a_captured_request_is_gone_with_the_end(handler: Handler) -> None:
    store = MemoryStore()
    wrapped = wrap(handler, store=store, retry={"/": True})
    headers = [(b"authorization", b"secret"), (b"content-length", b"3")]
    accepted = await call(wrapped, "/", "PUT", headers, [b"abc"])
    operation_id = path_of(accepted).rpartition("/")[2]
    kept = store.read_request(operation_id)
    assert kept is not None
    assert kept.header(b"authorization") == b"secret"
    await handler.begun.wait()
    assert (await call(wrapped, path_of(accepted), "DELETE")).status == 202
    await follow(wrapped, accepted)
    assert store.read_request(operation_id) is None


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("budget", [0, 0.05])
async def test_nothing_is_captured_of_what_is_not_run_again(
    handler: Handler, method: str, budget: float
) -> None:
    store = MemoryStore()
    headers = [(b"authorization", b"secret"), (b"content-length", b"3")]
    wrapped = wrap(handler, store=store, budget=budget)
    operation_id = path_of(await call(wrapped, "/", method, headers, [b"abc"])).rpartition("/")[2]
    assert store.read_request(operation_id) is None
    with pytest.raises(BodyMissing):
        list(store.read_chunks(operation_id, REQUEST_FENCE, 0, 1))


async def test_a_rerun_that_is_cancelled_before_it_has_come_in_is_stopped(
    store: MemoryStore,
) -> None:
    outside, stopped = anyio.Event(), anyio.Event()

    class Slow:
        """A middleware around raincheck that takes its time."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if is_rerun():
                outside.set()
                await anyio.sleep(0.3)
            await self.app(scope, receive, send)

    async def report(request: Request) -> Response:
        try:
            await anyio.sleep_forever()
        finally:
            if is_rerun():
                stopped.set()
        return Response()

    middleware = [Middleware(Slow), Middleware(RaincheckMiddleware, store=store, budget=0)]
    app = Starlette(routes=[Route("/", report)], middleware=middleware)
    accepted = await call(app)
    inner = inside(app)
    await lose(inner)
    await recover(inner)
    with anyio.fail_after(PATIENT):
        await outside.wait()
        await call(app, path_of(accepted), "DELETE")
        while (await call(app, path_of(accepted))).status != 410:  # noqa: ASYNC110
            await anyio.sleep(0.05)


@pytest.mark.usefixtures("by_hand")
async def test_what_a_handler_reads_while_it_is_deferred_is_kept_in_order(
    store: MemoryStore,
) -> None:
    runs = list[bytes]()

    @long_running(retry=True)
    async def marked(receive: Any) -> bytes:
        return await read_body(receive)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        runs.append(await marked(receive))
        if len(runs) == 1:
            await anyio.sleep_forever()
        await answer(send, runs[-1])

    first, second = (wrap(app, store=store, budget=60) for _ in range(2))
    body = [bytes([n]) * 200_000 for n in range(15)]
    headers = [(b"content-length", b"%d" % (15 * 200_000))]
    accepted = await call(first, "/", "POST", headers, body)
    with anyio.fail_after(PATIENT):
        while not runs:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.005)
    await lose(first)
    await recover(second)
    done = await follow(second, accepted)
    assert done.content == b"".join(body)
    assert runs[0] == runs[1]


async def test_a_mark_that_can_not_be_recorded_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, store: MemoryStore
) -> None:
    accepting, marked = threading.Event(), threading.Event()

    @long_running(retry=False)
    async def work(send: Any) -> None:
        await answer(send)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not accepting.is_set():  # noqa: ASYNC110 - no event of the loop tells
            await anyio.sleep(0.005)
        marked.set()  # its budget is over, and the operation is being recorded
        await work(send)

    wrapped = wrap(app, store=store, budget=0.02)
    engine = engine_of(wrapped)
    create = store.create

    def create_and_be_marked(*args: Any) -> Any:
        accepting.set()
        assert marked.wait(PATIENT)
        time.sleep(0.05)
        return create(*args)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise StoreUnavailable("down")

    monkeypatch.setattr(store, "create", create_and_be_marked)
    monkeypatch.setattr(engine, "mark", refuse)
    done = await call(wrapped, "/", "PUT")
    assert (done.status, engine.is_busy) == (200, False)
    (operation,), _ = store.find(Filter())
    assert operation.is_terminal


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_handler_that_cancels_itself_has_failed(store: MemoryStore) -> None:
    runs = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal runs
        runs += 1
        raise asyncio.CancelledError

    wrapped = wrap(app, store=store, budget=0)
    done = await follow(wrapped, await call(wrapped))
    assert (done.status, b'"exception"' in done.content, runs) == (500, True, 1)
