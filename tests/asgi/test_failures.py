"""Exceptions, cancellations and applications that break the protocol."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.support.asgi import Call, call, follow, http_scope, path_of
from tests.support.handlers import (
    SHORT,
    Untouchable,
    answer,
    read_body,
    slow,
    until_deferred,
    until_said,
    wrap,
)

pytestmark = pytest.mark.anyio


async def test_an_exception_before_the_202_goes_on() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("mine")

    server = await call(wrap(app, budget=60, store=Untouchable()))
    assert repr(server.error) == "ValueError('mine')"


async def test_an_exception_in_the_middle_of_a_response_is_no_response() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError

    wrapped = wrap(app)
    done = await follow(wrapped, await call(wrapped))
    assert done.status == 500
    assert b"half" not in done.content


async def test_an_exception_after_the_response_loses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        await answer(send)
        raise ValueError("after all")

    wrapped = wrap(app)
    assert (await follow(wrapped, await call(wrapped))).content == b"done"
    await until_said(caplog, "after all")
    assert caplog.text.count("ValueError: after all") == 1


@pytest.mark.parametrize("broken", ["nothing", "twice", "body first"])
async def test_an_application_that_breaks_the_protocol_has_no_response(broken: str) -> None:
    start = {"type": "http.response.start", "status": 200, "headers": []}
    scripts: dict[str, list[Any]] = {
        "nothing": [],
        "twice": [start, start],
        "body first": [{"type": "http.response.body", "body": b"x"}],
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        for message in scripts[broken]:
            await send(message)

    wrapped = wrap(app)
    assert (await follow(wrapped, await call(wrapped))).status == 500


async def test_a_server_that_cancels_before_the_202_cancels_the_application() -> None:
    ended = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    with anyio.move_on_after(SHORT):
        await call(wrap(app, budget=60))
    assert ended.is_set()


async def test_a_server_that_cancels_after_the_202_does_not() -> None:
    event = anyio.Event()
    app = wrap(slow(event))
    server = Call(app, http_scope())

    async def stuck(message: Any) -> None:
        server.sent.append(message)
        sent.set()
        await anyio.sleep_forever()

    sent = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(app, server.scope, server.receive, stuck)
        await sent.wait()
        group.cancel_scope.cancel()
    event.set()
    assert (await follow(app, server)).content == b"done"


async def test_a_response_that_is_too_large_fails_and_stops_its_handler() -> None:
    ended = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send(
                    {"type": "http.response.body", "body": b"x" * 300_000, "more_body": True}
                )
        finally:
            ended.set()

    wrapped = wrap(app, budget=0, limits={"response_body": 1_000_000})
    accepted = await call(wrapped)
    done = await follow(wrapped, accepted)
    assert (done.status, b"response_too_large" in done.content) == (500, True)
    with anyio.fail_after(5):
        await ended.wait()


async def test_an_application_that_heeds_only_disconnects_is_stopped_by_one() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        with anyio.CancelScope(shield=True):
            stopped.append((await receive())["type"])

    stopped: list[str] = []
    wrapped = wrap(app, budget=0)
    accepted = await call(wrapped)
    await call(wrapped, path_of(accepted), "DELETE")
    assert (await follow(wrapped, accepted)).status == 410
    assert stopped == ["http.disconnect"]
