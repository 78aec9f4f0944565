"""Races, hostile inputs, failing stores and applications that do what they should not."""

from __future__ import annotations

import decimal
import json
import threading
from http import HTTPStatus
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from raincheck import StoreUnavailable, current_operation, long_running
from raincheck.asgi import RaincheckMiddleware
from raincheck.contracts import Filter
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import PATIENT, Call, Message, call, engine_of, follow, http_scope, path_of
from tests.support.handlers import SHORT, Untouchable, answer, read_body, slow, until_deferred, wrap

pytestmark = pytest.mark.anyio

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
MODIFIED = b"Mon, 01 Jan 2024 00:00:00 GMT"


class Full(MemoryStore):
    """Takes no operation."""

    def create(self, *_: Any) -> Any:
        raise StoreUnavailable("no space")


class Gate(MemoryStore):
    """Records an operation only when told to."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.asked, self.may = threading.Event(), threading.Event()
        self._error = error

    def create(self, *arguments: Any) -> Any:
        self.asked.set()
        assert self.may.wait(30)
        if self._error is not None:
            raise self._error
        return super().create(*arguments)


async def until_asked(store: Gate) -> None:
    with anyio.fail_after(PATIENT):
        while not store.asked.is_set():  # noqa: ASYNC110 - set by a thread
            await anyio.sleep(0.002)


async def until_idle(app: RaincheckMiddleware) -> None:
    with anyio.fail_after(PATIENT):
        while engine_of(app).is_busy:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)


async def brief(scope: Any, receive: Any, send: Any) -> None:
    with anyio.move_on_after(10 * SHORT):
        await until_deferred()
    await answer(send)


async def deferred(scope: Any, receive: Any, send: Any) -> None:
    await until_deferred()
    await answer(send)


# --- the moment of the decision ----------------------------------------------------------------


@pytest.mark.parametrize("budget", [SHORT, None])
async def test_a_mark_after_a_promotion_that_failed_does_not_hang(budget: float | None) -> None:
    @long_running
    async def marked() -> None: ...

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await marked()
        await anyio.sleep(5 * SHORT)
        await marked()
        await answer(send)

    with anyio.fail_after(PATIENT):
        assert (await call(wrap(app, store=Full(), budget=budget))).content == b"done"


@pytest.mark.parametrize("end", ["answers", "raises"])
@pytest.mark.parametrize("error", [None, StoreUnavailable("late"), OSError("raw")])
async def test_an_application_that_ends_while_its_operation_is_recorded_loses_nothing(
    end: str, error: Exception | None
) -> None:
    store, asked = Gate(error), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asked.wait()
        if end == "raises":
            raise ValueError("mine")
        await answer(send)

    server = Call(wrapped := wrap(app, store=store), http_scope())
    async with anyio.create_task_group() as group:
        group.start_soon(server.run)
        await until_asked(store)
        asked.set()
        await anyio.sleep(SHORT)
        assert server.sent == []
        store.may.set()
    if error is None:
        assert (await follow(wrapped, server)).status == (200 if end == "answers" else 500)
    else:
        assert server.content == b"done" if end == "answers" else "mine" in str(server.error)


@pytest.mark.parametrize("error", [None, StoreUnavailable("late")])
async def test_a_server_that_leaves_while_the_operation_is_recorded_leaves_nothing_behind(
    error: Exception | None,
) -> None:
    store, ended = Gate(error), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await until_asked(store)
            await anyio.sleep(10 * SHORT)
            await answer(send)
        finally:
            ended.set()

    server = Call(wrapped := wrap(app, store=store), http_scope())
    async with anyio.create_task_group() as group:
        group.start_soon(server.run)
        await until_asked(store)
        group.cancel_scope.cancel()
    store.may.set()
    with anyio.fail_after(PATIENT):
        await ended.wait()
    await until_idle(wrapped)
    assert server.sent == []


async def test_threads_may_mark_in_the_moment_the_budget_is_over() -> None:
    def mark() -> None:
        long_running(lambda: None)()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.9 * SHORT)
            await anyio.to_thread.run_sync(mark)
        await answer(send)

    wrapped, found = wrap(app), list[Call]()

    async def one() -> None:
        found.append(await call(wrapped))

    with anyio.fail_after(PATIENT):
        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(one)
        for accepted in found:
            done = accepted if accepted.status == 200 else await follow(wrapped, accepted)
            assert done.content == b"done"


async def test_a_202_that_cannot_be_sent_does_not_end_its_handler() -> None:
    async def broken(message: Any) -> None:
        raise OSError("connection lost")

    event = anyio.Event()
    wrapped = wrap(slow(event))
    server: Any = Call(wrapped, http_scope())
    with pytest.raises(OSError, match="connection lost"):
        await wrapped(server.scope, server.receive, broken)
    event.set()
    await until_idle(wrapped)
    records, _ = engine_of(wrapped).store.find(Filter())
    assert [record.state.value for record in records] == ["succeeded"]


# --- reading ahead -----------------------------------------------------------------------------


def upload(app: Any, second: anyio.Event) -> tuple[Any, Any]:
    """Post two chunks; the second one arrives when the event is set."""
    server = Call(app, http_scope("/", "POST", [(b"content-length", b"2")]), [b"a", b"b"])

    async def receive() -> Message:
        if server.received == 1:
            await second.wait()
        return await server.receive()

    return server, receive


async def test_a_handler_that_gives_up_receiving_is_still_promoted() -> None:
    second, goes_on = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with anyio.move_on_after(3 * SHORT):
            await receive()
        second.set()
        with anyio.move_on_after(PATIENT):
            await goes_on.wait()
        await answer(send, await read_body(receive))

    wrapped = wrap(app)
    server, receive = upload(wrapped, second)
    await wrapped(server.scope, receive, server.send)
    assert server.status == 202
    goes_on.set()
    assert (await follow(wrapped, server)).content == b"b"


async def test_an_exception_does_not_wait_for_a_body_that_is_read_ahead() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await anyio.sleep(3 * SHORT)
        raise ValueError("mine")

    wrapped = wrap(app)
    server, receive = upload(wrapped, anyio.Event())
    with pytest.raises(ValueError, match="mine"), anyio.fail_after(PATIENT):
        await wrapped(server.scope, receive, server.send)


# --- what applications send --------------------------------------------------------------------


async def test_what_is_reused_after_sending_is_copied() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        fields, buffer = [[b"x-a", bytearray(b"1")]], bytearray(b"abc")
        await send(START | {"status": HTTPStatus.CREATED, "headers": iter(fields)})
        fields[0][1][:] = b"2"  # type: ignore[index]
        await send({"type": "http.response.body", "body": buffer, "more_body": True})
        buffer[:] = b"xyz"
        await send({"type": "http.response.body", "body": memoryview(buffer)})
        buffer[:] = b"..."

    wrapped = wrap(app)
    done = await follow(wrapped, await call(wrapped))
    assert (done.status, done.content, done.header(b"x-a")) == (201, b"abcxyz", b"1")


async def test_a_response_may_come_from_another_thread() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        def respond() -> None:
            anyio.from_thread.run(until_deferred)
            anyio.from_thread.run(answer, send)

        await anyio.to_thread.run_sync(respond)

    wrapped = wrap(app)
    assert (await follow(wrapped, await call(wrapped))).content == b"done"


async def test_a_204_is_replayed_without_the_content_it_must_not_have() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        await send(START | {"status": 204, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"null"})

    wrapped = wrap(app)
    done = await follow(wrapped, await call(wrapped))
    assert (done.status, done.content, done.header(b"content-length")) == (204, b"", None)


async def test_ten_thousand_header_fields_are_kept_in_order() -> None:
    fields = [(b"x-%d" % (n % 7), b"%d" % n) for n in range(10_000)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        await send(START | {"headers": fields})
        await send({"type": "http.response.body"})

    wrapped = wrap(app)
    done = await follow(wrapped, await call(wrapped))
    assert done.headers[:10_000] == fields


@pytest.mark.parametrize(
    "said",
    [(decimal.Decimal(1),), (1, 2, "\udcff"), (1, 2, KeyError())],
    ids=["decimal", "surrogate", "object"],
)
async def test_progress_of_any_kind_breaks_neither_poll_nor_operation(
    said: tuple[Any, ...], tmp_path: Any
) -> None:
    event = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        current_operation().progress(*said)
        await event.wait()
        await answer(send)

    wrapped = wrap(app, store=f"sqlite:///{tmp_path}/operations.db")
    try:
        with anyio.fail_after(PATIENT):
            accepted = await call(wrapped)
            assert accepted.error is None
            status = await call(wrapped, f"{path_of(accepted)}/status")
            assert status.error is None
            json.loads(status.content, parse_constant=pytest.fail)
            event.set()
            assert (await follow(wrapped, accepted)).content == b"done"
    finally:
        engine_of(wrapped).close()


# --- hostile requests --------------------------------------------------------------------------

HOSTILE: list[tuple[bytes, bytes]] = [
    (name, value)
    for name in (b"if-modified-since", b"if-unmodified-since", b"if-range", b"if-none-match")
    for value in (b"", b",", b"\xff\x00", b'"' * 9000, MODIFIED[:-3] + b"+" + b"9" * 20, b"0 " * 99)
] + [
    (b"range", b"bytes=" + b"9" * 5000 + b"-"),
    (b"range", b"bytes=0-0," * 5000),
    (b"host", b"a\r\nx: y"),
    (b"host", b"\xff" * 9000),
    (b"prefer", b'a;"a,' * 5000),
    (b"accept", b"a/b;q=" * 9000),
]


async def test_no_header_field_makes_a_poll_fail() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START | {"headers": [(b"last-modified", MODIFIED), (b"etag", b'"a"')]})
        await send({"type": "http.response.body", "body": b"done"})

    wrapped = wrap(app, budget=0)
    await follow(wrapped, accepted := await call(wrapped))
    for field in HOSTILE:
        for resource in ("", "/status"):
            answered = await call(wrapped, path_of(accepted) + resource, headers=[field])
            assert answered.error is None, field
            assert answered.status < 500, field


@pytest.mark.parametrize("name", ["\udcff", "\0", "x" * 100_000, "..", "%2e", "' OR 1=1"])
async def test_no_id_makes_a_poll_fail(name: str, tmp_path: Any) -> None:
    wrapped = wrap(brief, store=f"sqlite:///{tmp_path}/operations.db")
    for method in ("GET", "HEAD", "DELETE", "POST"):
        scope = http_scope(method=method) | {"path": f"/operations/{name}"}
        assert (await Call(wrapped, scope).run()).status == 404
    engine_of(wrapped).close()


async def test_an_absurd_content_length_is_the_applications_affair() -> None:
    fields = [(b"prefer", b"wait=9"), (b"content-length", b"9" * 5000)]
    done = await call(wrap(brief, store=Untouchable()), "/", "POST", fields, [b"x"])
    assert (done.error, done.status) == (None, 200)


async def test_a_scope_with_the_least_that_asgi_demands_is_enough() -> None:
    least = ("type", "asgi", "http_version", "method", "path", "headers")
    scope = {name: value for name, value in http_scope().items() if name in least}
    wrapped = wrap(deferred)
    accepted = await Call(wrapped, scope | {"headers": [], "http_version": "1.0"}).run()
    location = accepted.header(b"location")
    assert location is not None
    assert location.startswith(b"/operations/")


@pytest.mark.parametrize("path", ["/operations/x", "/operations/x/y/z", "/strict"])
async def test_an_answer_to_head_has_no_content(path: str) -> None:
    class Down(MemoryStore):
        def get(self, operation_id: str) -> Any:
            raise StoreUnavailable("down")

    strict = [(b"prefer", b"respond-async, handling=strict")]
    answered = await call(wrap(brief, store=Down()), path, "HEAD", strict)
    assert (answered.status >= 400, answered.content) == (True, b"")


async def test_a_body_that_cannot_be_read_now_is_a_503() -> None:
    class Down(MemoryStore):
        def read_chunks(self, *_: Any) -> Any:
            raise StoreUnavailable("down")

    wrapped = wrap(deferred, store=Down())
    done = await follow(wrapped, await call(wrapped))
    assert (done.error, done.status) == (None, 503)


async def test_a_body_that_ends_early_is_cut_and_not_awaited_for_ever() -> None:
    class Short(MemoryStore):
        def read_chunks(self, *arguments: Any) -> Any:
            yield from (chunk[:-1] for chunk in super().read_chunks(*arguments))

    wrapped = wrap(deferred, store=Short())
    accepted = await call(wrapped)
    with anyio.fail_after(PATIENT):
        assert (await follow(wrapped, accepted)).error is not None
