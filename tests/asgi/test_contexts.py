"""Which operation a request belongs to: its own scope says so, whatever context it begins in."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from asgiref.wsgi import WsgiToAsgi

from raincheck import current_operation, long_running
from raincheck.wsgi import RaincheckMiddleware as WSGIMiddleware
from tests.support.asgi import PATIENT, Call, call, engine_of, follow, http_scope, path_of
from tests.support.handlers import SHORT, Untouchable, answer, read_body, until_deferred, wrap

pytestmark = pytest.mark.anyio


class Seen:
    """A request of a stranger that a server begins in the context of a running handler."""

    def __init__(self, path: str, **options: Any) -> None:
        self.strangers = list[Call]()
        self.at = "before"
        self._path = path
        self.app = wrap(self._handle, **options)

    async def _handle(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == self._path:
            await self._work(send)
            return
        if self.at == "behind its answer":
            await answer(send)
        elif self.at == "deferred":
            await until_deferred()
            current_operation().progress(1)
        self.mine = current_operation().id
        async with anyio.create_task_group() as group:  # as servers do, in a task of its own
            group.start_soon(self._come)
        if self.at != "behind its answer":
            await answer(send)

    async def _work(self, send: Any) -> None:
        current_operation().progress(77)
        if self._path == "/slow":
            await until_deferred()
        await answer(send, str(current_operation().id).encode())

    async def _come(self) -> None:
        self.strangers.append(await call(self.app, self._path))

    async def stranger(self, at: str) -> Call:
        """Return its answer.

        Args:
            at: How far the handler is when the stranger comes.
        """
        self.at = at
        await call(self.app, "/first")
        with anyio.fail_after(PATIENT):
            while not self.strangers:  # noqa: ASYNC110 - the first one may have been deferred
                await anyio.sleep(SHORT / 10)
        return self.strangers[0]


@pytest.mark.parametrize("at", ["before", "deferred", "behind its answer"])
async def test_a_request_in_the_context_of_another_is_deferred_as_its_own_operation(
    at: str,
) -> None:
    seen = Seen("/slow")
    accepted = await seen.stranger(at)
    done = await follow(seen.app, accepted)
    assert done.content.decode() == path_of(accepted).rpartition("/")[2]


async def test_a_request_that_is_not_deferred_says_nothing_to_the_operation_of_its_context() -> (
    None
):
    seen = Seen("/excluded", exclude=["/excluded"])
    stranger = await seen.stranger("deferred")
    assert stranger.content == b"None"
    operation = engine_of(seen.app).store.get(seen.mine or "")
    assert operation is not None
    assert operation.progress is None or operation.progress.completed == 1


async def test_a_websocket_in_the_context_of_a_handler_belongs_to_no_operation() -> None:
    seen = list[str | None]()

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            seen.append(current_operation().id)
            return
        await until_deferred()
        async with anyio.create_task_group() as group:
            websocket = {"type": "websocket", "path": "/", "headers": []}
            group.start_soon(app, websocket, receive, send)
        await answer(send)

    app = wrap(handler)
    await follow(app, await call(app))
    assert seen == [None]


async def test_what_a_handler_asks_of_the_application_itself_is_part_of_its_own_request() -> None:
    seen = list[Call]()

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/part":
            await anyio.sleep(3 * SHORT)
        else:
            await until_deferred()
            seen.append(await call(app, "/part"))
        await answer(send)

    app = wrap(handler)
    await follow(app, await call(app, "/whole"))
    assert [part.status for part in seen] == [200]


@long_running
def marked() -> bytes:
    return b"done"


def around(inner: Any) -> Any:
    """Return a middleware with another one in what is mounted in its application."""

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "root_path": "/mounted"}, receive, send)

    return wrap(mounted, budget=60)


async def test_a_middleware_within_another_one_leaves_the_request_to_it() -> None:
    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, marked())

    app = around(wrap(handler, store=Untouchable()))
    assert (await follow(app, await call(app))).content == b"done"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_middleware_behind_an_adapter_leaves_the_request_to_the_one_around() -> None:
    def handler(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [marked()]

    inner = WSGIMiddleware(handler, store=Untouchable())
    app = around(WsgiToAsgi(inner))  # type: ignore[no-untyped-call]
    assert (await follow(app, await call(app))).content == b"done"


@pytest.mark.parametrize("deferred", [False, True], ids=["in budget", "deferred"])
async def test_what_belongs_to_the_server_runs_outside_of_the_handlers_request(
    deferred: bool,
) -> None:
    marks = list[str]()

    class Server(Call):
        async def receive(self) -> Any:
            marks.append("receive")
            current_operation().progress(99)  # goes nowhere
            await anyio.lowlevel.checkpoint()
            return await super().receive()

        async def send(self, message: Any) -> None:
            if not message.get("more_body") and message["type"] == "http.response.body":
                marks.append("last")
                current_operation().progress(99)
            await anyio.lowlevel.checkpoint()
            await super().send(message)

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        mine = current_operation()
        if deferred:
            await until_deferred()
        await answer(send)
        assert current_operation()._request is mine._request
        deferral = mine._request.deferral  # type: ignore[union-attr]
        said.append(deferral and deferral.progress)
        is_over.set()

    said, is_over = list[Any](), anyio.Event()
    app = wrap(handler, budget=SHORT if deferred else 60)
    headers = [(b"content-length", b"4")]
    served = await Server(app, http_scope("/", "POST", headers), [b"a", b"body"[1:]]).run()
    if deferred:
        await follow(app, served)
    await is_over.wait()
    assert marks[:2] == ["receive", "receive"]
    assert "last" in marks
    assert said == [None]


async def test_a_request_leaves_its_scope_as_it_found_it() -> None:
    scope = http_scope()

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    await Call(wrap(handler, budget=60), scope).run()
    assert set(scope) == set(http_scope())
