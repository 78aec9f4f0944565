"""A request that is not deferred: nothing is touched, copied or added."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.support.asgi import Call, call, http_scope
from tests.support.handlers import SHORT, Untouchable, wrap

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "options", [{}, {"exclude": ["/x"]}, {"mode": "prefer"}, {"mode": "marked"}, {"budget": None}]
)
async def test_a_fast_request_touches_no_store_copies_nothing_and_gets_no_header(
    options: dict[str, Any],
) -> None:
    body, headers, seen = b"x" * 1000, [(b"x-a", b"1")], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    class Server(Call):
        async def send(self, message: Any) -> None:
            self.sent.append(message)

        async def receive(self) -> Any:
            return request

    request = {"type": "http.request", "body": body, "more_body": False}
    wrapped = wrap(app, **({"store": Untouchable(), "budget": 60} | options))
    server = await Server(wrapped, http_scope("/x", "POST", [(b"content-length", b"1000")])).run()
    assert server.error is None
    assert seen[0] is request
    assert server.sent[0]["headers"] is headers
    assert server.sent[1]["body"] is body


async def test_a_started_response_streams_through_and_is_never_promoted() -> None:
    started = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        started.set()
        for _ in range(5):
            await anyio.sleep(SHORT)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    done = await call(wrap(app, store=Untouchable()))
    assert (done.status, done.content) == (200, b"xxxxx")


async def test_websockets_and_others_pass_through() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    scope, receive, send = {"type": "websocket", "path": "/operations/x"}, object(), object()
    await wrap(app)(scope, receive, send)  # type: ignore[arg-type]
    assert seen == [(scope, receive, send)]
