"""Exceptions, cancellations and applications that break the protocol."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from raincheck import StoreUnavailable, long_running
from raincheck.asgi import handler_end
from raincheck.operations.operation import Operation
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import PATIENT, Call, call, follow, http_scope, path_of
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
    with anyio.fail_after(PATIENT):
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


async def test_a_loop_that_stood_still_has_given_the_handler_no_time() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        await receive()
        time.sleep(2 * handler_end.GRACE)  # noqa: ASYNC251 - the whole loop stands still
        for _ in range(5):  # as many steps as Django takes to stop its view
            await anyio.lowlevel.checkpoint()
        ended.append("by itself")

    ended: list[str] = []
    wrapped = wrap(app, budget=0)
    accepted = await call(wrapped)
    await call(wrapped, path_of(accepted), "DELETE")
    assert (await follow(wrapped, accepted)).status == 410
    assert ended == ["by itself"]


class Own(BaseException):
    """What no framework knows."""


@pytest.mark.parametrize("grouped", [False, True])
async def test_an_exception_of_a_kind_of_its_own_is_one_and_no_shutdown(grouped: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise BaseExceptionGroup("several", [Own()]) if grouped else Own

    wrapped = wrap(app, budget=0)
    done = await follow(wrapped, await call(wrapped))
    assert (done.status, b'"exception"' in done.content) == (500, True)


# --- ends of responses -------------------------------------------------------------------------

TRAILERS = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
ALL = {"type": "http.response.body", "body": b"all"}
HALF = {"type": "http.response.body", "body": b"half", "more_body": True}


@pytest.mark.parametrize("rest", [[ALL], []])
@pytest.mark.parametrize("announced", [True, False])
async def test_trailers_before_the_end_of_the_body_are_no_response(
    announced: bool, rest: list[Any]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": []}
        await send(start | {"trailers": announced})
        await send(HALF)
        await send(TRAILERS)
        for message in rest:
            await send(message)

    wrapped = wrap(app, budget=0)
    done = await follow(wrapped, await call(wrapped))
    assert (done.status, b"half" in done.content) == (500, False)


@pytest.mark.parametrize("late", [[ALL, HALF], [ALL, TRAILERS, HALF], [ALL, TRAILERS, TRAILERS]])
async def test_what_is_sent_after_the_end_is_refused_and_is_not_in_the_response(
    late: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": []}
        await send(start | {"trailers": TRAILERS in late})
        *sent, refused = late
        for message in sent:
            await send(message)
        with pytest.raises(RuntimeError, match="after"):
            await send(refused)

    wrapped = wrap(app, budget=0)
    done = await follow(wrapped, await call(wrapped))
    assert (done.status, done.content) == (200, b"all")
    assert "raised" not in caplog.text


# --- servers that leave ------------------------------------------------------------------------


class Refusing(MemoryStore):
    """Takes no operation, but only when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = threading.Event(), threading.Event()

    def create(self, *_: Any) -> Operation:
        self.asked.set()
        assert self.may.wait(30)
        raise StoreUnavailable("down")


async def leave(app: Any, reached: threading.Event, **request: Any) -> None:
    """Have a server leave when something is reached."""
    async with anyio.create_task_group() as group:
        group.start_soon(Call(app, http_scope(**request)).run)
        with anyio.fail_after(PATIENT):
            while not reached.is_set():  # noqa: ASYNC110 - set by a thread
                await anyio.sleep(0.002)
        group.cancel_scope.cancel()


async def test_a_mark_of_who_outlives_its_server_and_is_not_deferred_holds_nothing() -> None:
    store, ended = Refusing(), anyio.Event()

    @long_running
    async def marked() -> None: ...

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await marked()
                await answer(send)
                ended.set()

    await leave(wrap(app, store=store), store.asked)
    store.may.set()
    with anyio.fail_after(PATIENT):
        await ended.wait()


async def test_what_was_raised_before_the_server_left_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, raises = Refusing(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not store.asked.is_set():  # noqa: ASYNC110 - set by a thread
            await anyio.sleep(0.002)
        raises.set()
        raise ValueError("mine")

    await leave(wrap(app, store=store), raises)
    store.may.set()
    await until_said(caplog, "ValueError: mine")


async def test_who_is_marked_fails_and_has_its_server_leave_is_logged_and_reads_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed, receiving = threading.Event(), list[int]()

    @long_running
    async def marked() -> None:
        failed.set()
        raise ValueError("mine")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await marked()

    async def around(scope: Any, receive: Any, send: Any) -> None:
        async def none_comes() -> Any:
            receiving.append(1)
            try:
                await anyio.sleep_forever()
            finally:
                receiving.pop()

        await wrapped(scope, none_comes, send)

    wrapped = wrap(app, budget=60)
    await leave(around, failed, method="POST", headers=[(b"content-length", b"5")])
    await until_said(caplog, "ValueError: mine")
    with anyio.fail_after(PATIENT):
        while receiving:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)
