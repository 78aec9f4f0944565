"""Handlers that workers run, by the ASGI gateway: left when they are called, or never called."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from raincheck import current_operation, is_rerun, long_running
from raincheck.asgi import RaincheckMiddleware
from raincheck.engine.queues import Take
from raincheck.operations.operation import State
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import Call, call, engine_of, http_scope, inside, path_of
from tests.support.handlers import answer, read_body, wrap
from tests.support.workers import run_in_loop

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("by_hand")]

BODY = [b"first ", b"second"]
LENGTH = (b"content-length", b"12")


@pytest.fixture(autouse=True)
def no_marks_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raincheck.handler.marking._known_markings", set())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class Shop:
    """An application in two processes, whose marked handler notes each of its runs."""

    def __init__(self, store: MemoryStore, **options: Any) -> None:
        self.runs: list[str] = []
        self.rolled_back: list[str] = []
        self.told: list[str] = []
        given = {"application": "shop", "store": store, "budget": 60} | options
        given = {"workers": {"workers": self.told.append}} | given
        self.web, self.worker = self._app("web", given), self._app("worker", given)

    def _app(self, process: str, options: dict[str, Any]) -> FastAPI:
        app = FastAPI()
        app.add_middleware(RaincheckMiddleware, **options)
        app.add_middleware(SessionMiddleware, secret_key="secret")  # noqa: S106

        def key(x_key: str = Header()) -> str:
            if x_key != "right":
                raise HTTPException(401)
            return x_key

        async def transaction() -> AsyncIterator[None]:
            try:
                yield
            except BaseException:
                self.rolled_back.append(process)
                raise

        @app.post("/reports")
        @long_running(runner="workers")
        async def report(
            request: Request, key: str = Depends(key), _: None = Depends(transaction)
        ) -> Response:
            self.runs.append(process)
            current_operation().progress(1, total=2)
            body = (await request.body()).decode()
            document = {"key": key, "body": body, "again": is_rerun(), "q": str(request.url)}
            return JSONResponse(document, 201, {"x-own": "1"})

        @app.post("/sync")
        @long_running(runner="workers")
        def sync(text: str) -> str:
            self.runs.append(process)
            return text.upper()

        return app


async def ask(app: Any, path: str = "/reports", *headers: tuple[bytes, bytes], **more: Any) -> Call:
    body = more.pop("body", BODY)
    return await call(app, path, "POST", [LENGTH, *headers], body, **more)


RIGHT = (b"x-key", b"right")


async def finish(shop: Shop, accepted: Call) -> Call:
    """Have a worker run what was accepted, and ask the web process for the response."""
    await ask(shop.worker, "/nothing")  # so that its stack is built
    operation_id = path_of(accepted).rpartition("/")[2]
    assert await run_in_loop(engine_of(inside(shop.worker)), operation_id) is Take.BEGUN
    return await call(shop.web, path_of(accepted))


async def test_a_handler_that_workers_run_does_not_run_in_the_process_that_is_asked(
    store: MemoryStore,
) -> None:
    shop = Shop(store)
    accepted = await ask(shop.web, "/reports", RIGHT, query_string=b"a=%20b")
    assert (accepted.status, accepted.error, shop.runs) == (202, None, [])
    assert b'"status":"accepted"' in accepted.content
    assert shop.rolled_back == ["web"]
    assert shop.told == [path_of(accepted).rpartition("/")[2]]
    waiting = await call(shop.web, path_of(accepted))
    assert (waiting.status, b'"accepted"' in waiting.content) == (202, True)
    done = await finish(shop, accepted)
    assert (shop.runs, shop.rolled_back) == (["worker"], ["web"])
    assert (done.status, done.header(b"x-own")) == (201, b"1")
    url = "http://testserver/reports?a=%20b"
    expected = {"key": "right", "body": "first second", "again": False, "q": url}
    assert done.content == JSONResponse(expected).body


@pytest.mark.parametrize(
    ("header", "status"), [((b"x-key", b"wrong"), 401), ((b"x-none", b""), 422)]
)
async def test_who_is_refused_before_the_handler_is_refused_by_the_process_that_is_asked(
    store: MemoryStore, header: tuple[bytes, bytes], status: int
) -> None:
    shop = Shop(store)
    assert (await ask(shop.web, "/reports", header)).status == status
    assert not store._operations


async def test_a_sync_handler_is_left_as_well(store: MemoryStore) -> None:
    shop = Shop(store)
    accepted = await ask(shop.web, "/sync", query_string=b"text=abc")
    assert (accepted.status, shop.runs) == (202, [])
    done = await finish(shop, accepted)
    assert (done.content, shop.runs) == (b'"ABC"', ["worker"])


async def test_when_workers_cant_be_told_the_client_is_and_nothing_has_run(
    store: MemoryStore,
) -> None:
    def fail(operation_id: str) -> None:
        raise ConnectionError("no broker")

    shop = Shop(store, workers={"workers": fail})
    refused = await ask(shop.web, "/reports", RIGHT)
    assert (refused.status, refused.header(b"retry-after")) == (503, b"5")
    assert b"unavailable" in refused.content
    assert shop.runs == []
    assert [each.state for each in store._operations.values()] == [State.FAILED]


async def test_two_requests_under_one_key_are_one_operation_of_a_worker(
    store: MemoryStore,
) -> None:
    shop = Shop(store, identity_headers=["x-key"])
    key = (b"idempotency-key", b"k")
    first = await ask(shop.web, "/reports", RIGHT, key)
    second = await ask(shop.web, "/reports", RIGHT, key)
    assert (first.status, path_of(first)) == (202, path_of(second))
    assert shop.told == [path_of(first).rpartition("/")[2]]
    done = await finish(shop, first)
    assert (done.status, shop.runs) == (201, ["worker"])
    third = await ask(shop.web, "/reports", RIGHT, key)
    assert (third.status, third.content, shop.runs) == (201, done.content, ["worker"])


async def test_a_request_that_was_accepted_before_its_handler_is_left_to_workers(
    store: MemoryStore,
) -> None:
    shop = Shop(store, budget=0)
    accepted = await ask(shop.web, "/reports", RIGHT)
    with anyio.fail_after(30):
        while shop.rolled_back != ["web"]:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)
    done = await finish(shop, accepted)
    assert (done.status, shop.runs) == (201, ["worker"])
    assert b'"again":false' in done.content


async def test_who_reads_events_has_the_handler_run_for_it_where_it_asked(
    store: MemoryStore,
) -> None:
    shop = Shop(store)
    response = await ask(shop.web, "/reports", RIGHT, (b"accept", b"text/event-stream"))
    assert (response.status, shop.runs, shop.told) == (201, ["web"], [])


async def test_without_raincheck_around_the_handler_runs_where_it_is_called() -> None:
    @long_running(queue="nightly")
    async def handler(request: Any) -> Response:
        return PlainTextResponse("here")

    app = Starlette(routes=[Route("/", handler)])
    assert (await call(app)).content == b"here"


# --- a path that workers handle ----------------------------------------------------------------


class Untold:
    """An application that answers what it was sent, and notes that it was called."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls.append(scope["path"])
        await answer(send, bytes(reversed(await read_body(receive))))


@pytest.fixture
def untold() -> Untold:
    return Untold()


@pytest.mark.parametrize("mode", ["auto", "marked"])
async def test_nothing_of_the_application_runs_where_a_path_is_for_workers(
    untold: Untold, store: MemoryStore, mode: str
) -> None:
    options: dict[str, Any] = {"store": store, "runners": {"/reports/*": "workers"}, "mode": mode}
    web, worker = wrap(untold, **options), wrap(Untold(), **options)
    accepted = await call(web, "/reports/1", "PUT", [LENGTH], BODY)
    assert (accepted.status, untold.calls) == (202, [])
    operation_id = path_of(accepted).rpartition("/")[2]
    assert await run_in_loop(engine_of(worker), operation_id) is Take.BEGUN
    done = await call(web, path_of(accepted))
    assert (done.status, done.content) == (200, b"".join(BODY)[::-1])
    assert (await call(web, "/reports")).content == b""  # not for workers
    assert untold.calls == ["/reports"]


async def test_a_client_that_must_ask_for_a_202_gets_one_of_workers_then_only(
    untold: Untold, store: MemoryStore
) -> None:
    web = wrap(untold, store=store, runners={"/**": "workers"}, mode="prefer")
    assert (await call(web)).status == 200
    accepted = await call(web, "/", "GET", [(b"prefer", b"respond-async, wait=5")])
    assert (accepted.status, accepted.header(b"preference-applied")) == (202, b"respond-async")
    assert len(untold.calls) == 1


async def test_what_is_too_large_for_a_worker_is_refused_before_anything_runs(
    untold: Untold, store: MemoryStore
) -> None:
    web = wrap(
        untold, store=store, runners={"/**": "workers"}, limits={"request_body": 10}, budget=60
    )
    refused = await call(web, "/", "POST", [LENGTH], BODY)
    assert (refused.status, untold.calls) == (413, [])
    assert b"too large to be kept for a worker" in refused.content


async def test_a_handler_whose_request_is_too_large_for_a_worker_does_not_run(
    store: MemoryStore,
) -> None:
    shop = Shop(store, limits={"request_body": 10})
    refused = await ask(shop.web, "/reports", RIGHT)
    assert (refused.status, shop.runs) == (413, [])


async def test_what_a_worker_does_is_cancelled_from_where_it_was_asked_for(
    store: MemoryStore,
) -> None:
    begun, ended = anyio.Event(), anyio.Event()

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    options: dict[str, Any] = {"store": store, "runners": {"/**": "workers"}}
    web, worker = wrap(stubborn, **options), wrap(stubborn, **options)
    accepted = await call(web)
    engine = engine_of(worker)
    async with anyio.create_task_group() as group:
        group.start_soon(run_in_loop, engine, path_of(accepted).rpartition("/")[2])
        await begun.wait()
        assert (await call(web, path_of(accepted), "DELETE")).status == 202
        while not ended.is_set():  # what begins may not be known as running yet
            await anyio.to_thread.run_sync(engine.beat)
    assert (await call(web, path_of(accepted))).status == 410


async def test_a_client_that_leaves_while_it_sends_its_body_has_no_operation(
    untold: Untold, store: MemoryStore
) -> None:
    web = wrap(untold, store=store, runners={"/**": "workers"})
    server = Call(web, http_scope("/", "POST", [(b"content-length", b"100")]), [b"half", b""])
    server._incoming[-1]["more_body"] = True
    server.leave()
    await server.run()
    assert (server.sent, untold.calls, store._operations) == ([], [], {})


async def test_middleware_with_a_session_is_around_both(store: MemoryStore) -> None:
    @long_running(queue="nightly")
    async def handler(request: Any) -> Response:
        return JSONResponse(dict(request.session))

    def app() -> Starlette:
        stack = [
            Middleware(SessionMiddleware, secret_key="s"),  # noqa: S106
            Middleware(RaincheckMiddleware, store=store, application="shop"),
        ]
        return Starlette(routes=[Route("/", handler)], middleware=stack)

    web, worker = app(), app()
    accepted = await call(web)
    assert accepted.status == 202
    await call(worker, "/none")
    await run_in_loop(engine_of(inside(worker)), path_of(accepted).rpartition("/")[2])
    assert (await call(web, path_of(accepted))).content == b"{}"


async def test_a_handler_that_is_called_again_after_it_was_left_does_not_run_here_either(
    store: MemoryStore,
) -> None:
    runs, over = list[str](), anyio.Event()

    @long_running(runner="workers")
    async def report() -> Response:
        runs.append("report")
        return PlainTextResponse("")

    async def twice(request: Request) -> Response:
        with suppress(Exception):
            await report()
        try:
            return await report()
        finally:
            over.set()

    app = wrap(Starlette(routes=[Route("/", twice)]), store=store, budget=60)
    accepted = await call(app, "/", headers=[(b"prefer", b"respond-async")])
    assert accepted.status == 202
    with anyio.fail_after(10):
        await over.wait()
    (operation,) = store._operations.values()
    assert (operation.state, operation.queue, runs) == (State.ACCEPTED, "workers", [])


@pytest.mark.parametrize("runners", [None, {"/**": "workers"}])
async def test_a_server_that_leaves_while_it_is_recorded_leaves_no_body_behind(
    runners: dict[str, str] | None,
) -> None:
    class Slow(MemoryStore):
        def create(self, *args: Any) -> Any:
            is_recording.set()
            may_go_on.wait(10)
            return super().create(*args)

    @long_running(runner="workers")
    async def report(request: Request) -> Response:
        raise AssertionError

    is_recording, may_go_on, store = threading.Event(), threading.Event(), Slow()
    app = wrap(
        Starlette(routes=[Route("/", report, methods=["POST"])]),
        store=store,
        budget=60,
        runners=runners,
    )
    spooled = engine_of(app).admission.spooled
    async with anyio.create_task_group() as group:
        body = [b"x" * 1_500_000, b"x" * 1_500_000]
        headers = [(b"content-length", b"3000000")]
        group.start_soon(call, app, "/", "POST", headers, body)
        await anyio.to_thread.run_sync(is_recording.wait)
        assert any(spooled._bytes.values())
        group.cancel_scope.cancel()
        may_go_on.set()
    with anyio.fail_after(10):
        while any(spooled._bytes.values()):  # noqa: ASYNC110 - nobody tells of it
            await anyio.sleep(0.01)
    assert len(store._operations) == 1


async def test_who_is_known_only_by_the_handler_owns_what_a_worker_has_run(
    store: MemoryStore,
) -> None:
    """As in the process that was asked: asked again when the response begins."""

    @long_running(runner="workers")
    async def report(request: Request) -> Response:
        request.scope["me"] = "alice"
        return PlainTextResponse("secret")

    def app() -> Any:
        inner = Starlette(routes=[Route("/", report)])
        return wrap(inner, store=store, budget=60, owner=lambda scope: scope.get("me"))

    web, worker = app(), app()
    accepted = await call(web, "/")
    operation_id = path_of(accepted).rpartition("/")[2]
    assert await run_in_loop(engine_of(worker), operation_id) is Take.BEGUN
    assert store._operations[operation_id].owner == "alice"
    assert (await call(web, path_of(accepted))).status == 404
