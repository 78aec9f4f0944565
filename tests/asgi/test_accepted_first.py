"""Requests that become operations before their handlers are called, by the ASGI gateway.

What all gateways have in common is in `tests/gateways`; here is what needs a server's own view.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from raincheck import current_operation, long_running
from raincheck.asgi import RaincheckMiddleware
from raincheck.asgi.upload import IN_MEMORY
from raincheck.config import options
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import Operation
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import PATIENT, Call, call, engine_of, follow, http_scope, path_of
from tests.support.handlers import answer, read_body, wrap
from tests.support.wire import Clock

pytestmark = pytest.mark.anyio
KEY = (b"idempotency-key", b"8e03978e")


class Handler:
    """Answers with what it was sent, when it may; counts how often it was called."""

    def __init__(self) -> None:
        self.calls = 0
        self.begun = anyio.Event()
        self.go = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.begun.set()
        body = await read_body(receive)
        await self.go.wait()
        headers = [(b"x-a", b"1"), (b"set-cookie", b"s=1"), (b"x-a", b"2")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Failing(MemoryStore):
    def create(self, *args: Any, **kwargs: Any) -> Operation:
        raise StoreUnavailable("down")


@pytest.fixture
def handler() -> Handler:
    return Handler()


async def test_the_first_client_gets_the_whole_response_and_later_ones_get_it_without_cookies(
    handler: Handler,
) -> None:
    handler.go.set()
    app = wrap(handler, budget=60)
    first = await call(app, "/", "POST", [KEY, (b"content-length", b"3")], [b"a", b"bc"])
    again = await call(app, "/", "POST", [KEY, (b"content-length", b"3")], [b"abc"])
    assert (first.status, first.content) == (again.status, again.content) == (201, b"abc")
    fields = [(b"x-a", b"1"), (b"set-cookie", b"s=1"), (b"x-a", b"2")]
    assert first.headers[:3] == fields
    assert again.headers[:2] == [(b"x-a", b"1"), (b"x-a", b"2")]
    assert handler.calls == 1


async def test_a_client_that_leaves_finds_its_operation_again(handler: Handler) -> None:
    app = wrap(handler, budget=60)
    leaving = Call(app, http_scope("/", "POST", [KEY]))
    async with anyio.create_task_group() as group:
        group.start_soon(leaving.run)
        await handler.begun.wait()
        leaving.leave()
        group.cancel_scope.cancel()  # as servers may do
    second = Call(app, http_scope("/", "POST", [KEY]))
    async with anyio.create_task_group() as group:
        group.start_soon(second.run)
        await anyio.lowlevel.checkpoint()
        handler.go.set()
    assert (second.status, handler.calls) == (201, 1)


async def test_who_comes_while_it_runs_is_given_the_same_operation(handler: Handler) -> None:
    app = wrap(handler, budget=0.05)
    accepted = await call(app, "/", "POST", [KEY])
    again = await call(app, "/", "POST", [KEY])
    assert (accepted.status, again.status) == (202, 202)
    assert path_of(accepted) == path_of(again)
    handler.go.set()
    assert (await follow(app, accepted)).status == 201
    assert handler.calls == 1


async def test_who_waits_has_the_response_as_soon_as_it_is_there(handler: Handler) -> None:
    app, calls = wrap(handler, budget=60), list[Call]()

    async def ask() -> None:
        calls.append(await call(app, "/", "POST", [KEY]))

    with anyio.fail_after(PATIENT):
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask)
            await handler.begun.wait()
            handler.go.set()
    assert [done.status for done in calls] == [201] * 5
    assert handler.calls == 1


async def test_above_the_limit_of_pollers_a_repetition_is_answered_at_once(
    handler: Handler,
) -> None:
    app = wrap(handler, budget=60, limits={"pollers": 0})
    first = Call(app, http_scope("/", "POST", [KEY]))
    async with anyio.create_task_group() as group:
        group.start_soon(first.run)
        await handler.begun.wait()
        with anyio.fail_after(PATIENT):
            assert (await call(app, "/", "POST", [KEY])).status == 202
        handler.go.set()
    assert first.status == 201


@pytest.mark.parametrize("budget", [60, None])
async def test_a_marked_handler_is_not_waited_for(budget: float | None) -> None:
    go = anyio.Event()

    @long_running
    async def work() -> None:
        await go.wait()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await work()
        await answer(send)

    wrapped = wrap(app, budget=budget)
    with anyio.fail_after(PATIENT):
        accepted = await call(wrapped, "/", "POST", [KEY])
        assert accepted.status == 202
        go.set()
        assert (await follow(wrapped, accepted)).status == 200


EVENTS = (b"accept", b"text/event-stream")


async def test_who_asks_for_events_is_never_answered_202_under_a_key_either(
    handler: Handler,
) -> None:
    @long_running
    async def marked(scope: Any, receive: Any, send: Any) -> None:
        await handler(scope, receive, send)

    wrapped = wrap(marked, budget=0.01, max_wait=0.05)
    first = Call(wrapped, http_scope("/", "POST", [KEY, EVENTS]))
    async with anyio.create_task_group() as group:
        group.start_soon(first.run)
        with anyio.fail_after(PATIENT):
            await handler.begun.wait()
        early = await call(wrapped, "/", "POST", [KEY, EVENTS])
        assert (early.status, b"idempotency-key-in-use" in early.content) == (409, True)
        assert int(early.header(b"retry-after") or 0) >= 1
        assert first.sent == []
        handler.go.set()
    again = await call(wrapped, "/", "POST", [KEY, EVENTS, (b"prefer", b"respond-async")])
    assert (first.status, again.status, handler.calls) == (201, 201, 1)


class Streaming:
    """Begins its response at once, and goes on when it may."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = anyio.Event()
        self.error: Exception | None = None
        self.extensions: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.extensions = scope["extensions"]
        fields = [(b"set-cookie", b"s=1"), (b"x-a", b"1")]
        await send({"type": "http.response.start", "status": 201, "headers": fields})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        await self.go.wait()
        if self.error is not None:
            raise self.error
        await send({"type": "http.response.body", "body": b"last"})


async def begun(calling: Call) -> None:
    """Wait until a client has the beginning of its response."""
    with anyio.fail_after(PATIENT):
        while not calling.content:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)


@pytest.mark.parametrize("budget", [60, 0.05])
async def test_a_response_that_has_started_streams_through_under_a_key_too(budget: float) -> None:
    handler = Streaming()
    app = wrap(handler, budget=budget)
    first = Call(app, http_scope("/", "POST", [KEY]))
    async with anyio.create_task_group() as group:
        group.start_soon(first.run)
        await begun(first)
        assert first.content == b"first "
        if budget < 1:
            await anyio.sleep(2 * budget)
        handler.go.set()
    assert (first.status, first.content) == (201, b"first last")
    assert first.headers == [(b"set-cookie", b"s=1"), (b"x-a", b"1")]
    again = await call(app, "/", "POST", [KEY])
    assert (again.status, again.content, handler.calls) == (201, b"first last", 1)
    assert again.header(b"set-cookie") is None


async def test_a_client_that_leaves_its_stream_finds_all_of_it_under_its_key() -> None:
    handler = Streaming()
    app = wrap(handler, budget=60)
    leaving = Call(app, http_scope("/", "POST", [KEY]))
    async with anyio.create_task_group() as group:
        group.start_soon(leaving.run)
        await begun(leaving)
        leaving.leave()
    handler.go.set()
    again = await call(app, "/", "POST", [KEY])
    assert leaving.content == b"first "
    assert (again.status, again.content, handler.calls) == (201, b"first last", 1)


async def test_a_connection_that_breaks_does_not_reach_the_handler_under_a_key() -> None:
    handler = Streaming()
    app = wrap(handler, budget=60)

    class Breaking(Call):
        async def send(self, message: Any) -> None:
            if self.content:
                raise OSError("the client has left")
            await super().send(message)

    breaking = Breaking(app, http_scope("/", "POST", [KEY]))
    handler.go.set()
    await breaking.run()
    assert breaking.error is None
    again = await call(app, "/", "POST", [KEY])
    assert (again.content, handler.calls) == (b"first last", 1)


async def test_a_stream_that_breaks_off_is_cut_and_its_operation_has_failed() -> None:
    handler = Streaming()
    handler.error = ValueError("broken")
    app = wrap(handler, budget=60)
    first = Call(app, http_scope("/", "POST", [KEY]))
    async with anyio.create_task_group() as group:
        group.start_soon(first.run)
        await begun(first)
        handler.go.set()
    assert first.error is handler.error
    assert first.content == b"first "
    again = await call(app, "/", "POST", [KEY])
    assert (again.status, b'"exception"' in again.content, handler.calls) == (500, True, 1)


async def test_a_stream_too_large_to_be_kept_reaches_its_client_whole() -> None:
    handler = Streaming()
    app = wrap(handler, budget=60, limits={"response_body": 7})
    handler.go.set()
    first = await call(app, "/", "POST", [KEY])
    assert (first.status, first.content) == (201, b"first last")
    again = await call(app, "/", "POST", [KEY])
    assert (again.status, b"response_too_large" in again.content) == (500, True)


OFFERED = {
    "tls": {"client_cert_name": "CN=me"},
    "http.response.trailers": {},
    "http.response.early_hint": {},
    "http.response.debug": {},
    "http.response.zerocopysend": {},
    "http.response.own": {},
}


async def test_what_the_server_offers_is_kept_for_a_response_that_streams_through() -> None:
    handler = Streaming()
    handler.go.set()
    await call(wrap(handler, budget=60), "/", "POST", [KEY], extensions=OFFERED)
    gone = {"http.response.zerocopysend", "http.response.own"}
    assert handler.extensions == {k: v for k, v in OFFERED.items() if k not in gone}
    handler = Streaming()
    accepted = await call(wrap(handler, budget=0), "/", "POST", [KEY], extensions=OFFERED)
    assert accepted.status == 202
    with anyio.fail_after(PATIENT):
        while not handler.calls:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)
    assert handler.extensions == {"tls": OFFERED["tls"]}


async def test_hints_and_trailers_come_through_under_a_key() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": []})
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"a"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

    wrapped = wrap(app, budget=60)
    first = await call(wrapped, "/", "POST", [KEY], extensions=OFFERED)
    kinds = [message["type"].rpartition(".")[2] for message in first.sent]
    assert kinds == ["early_hint", "start", "body", "trailers"]
    again = await call(wrapped, "/", "POST", [KEY], extensions=OFFERED)
    assert again.sent[-1]["headers"] == [(b"x-sum", b"1")]


async def test_an_exception_is_the_operations_end(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal calls
        calls += 1
        raise ValueError("broken")

    wrapped = wrap(app, budget=60)
    for _ in range(2):
        done = await call(wrapped, "/", "POST", [KEY])
        assert (done.status, done.error, b'"exception"' in done.content) == (500, None, True)
    assert (calls, len([record for record in caplog.records if record.exc_info])) == (1, 1)


async def test_a_store_that_fails_means_that_nothing_runs_under_a_key(handler: Handler) -> None:
    done = await call(wrap(handler, store=Failing()), "/", "POST", [KEY])
    assert (done.status, done.header(b"retry-after"), handler.calls) == (503, b"5", 0)


async def test_without_a_key_a_store_that_fails_means_that_it_stays_synchronous(
    handler: Handler,
) -> None:
    handler.go.set()
    done = await call(wrap(handler, store=Failing(), budget=0), "/", "POST")
    assert (done.status, handler.calls) == (201, 1)


@pytest.mark.parametrize("budget", [0, 60])
async def test_a_store_that_fails_means_that_what_would_be_coalesced_is_handled_alone(
    handler: Handler, budget: float
) -> None:
    handler.go.set()
    app = wrap(handler, store=Failing(), budget=budget, coalesce=["/**"])
    assert [(await call(app)).status for _ in range(2)] == [201, 201]
    assert handler.calls == 2


async def test_but_no_more_of_it_than_may_stay_synchronous(handler: Handler) -> None:
    handler.go.set()
    app = wrap(handler, store=Failing(), budget=0, coalesce=["/**"], limits={"synchronous": 0})
    assert [(await call(app)).status for _ in range(2)] == [201, 503]  # the first finds out
    assert handler.calls == 1


@pytest.mark.parametrize("has_key", [True, False])
async def test_what_there_is_no_room_for_is_refused_before_anything_runs(
    handler: Handler, has_key: bool
) -> None:
    size = IN_MEMORY + 10_000
    headers = [(b"content-length", b"%d" % (2 * size)), *([KEY] if has_key else [])]
    app = wrap(handler, budget=0, limits={"spooled": IN_MEMORY})
    done = await call(app, "/", "POST", headers, [b"x" * size, b"x" * size])
    assert (done.status, done.header(b"retry-after"), handler.calls) == (503, b"5", 0)
    assert engine_of(app).admission.spooled.add(IN_MEMORY)  # all of it was let go of


async def test_a_body_that_is_too_large_to_be_compared_is_refused(handler: Handler) -> None:
    app = wrap(handler, limits={"request_body": 10})
    headers = [KEY, (b"content-length", b"20")]
    done = await call(app, "/", "POST", headers, [b"x" * 20])
    assert (done.status, handler.calls) == (413, 0)


async def test_what_is_too_large_to_be_coalesced_is_handled_alone(handler: Handler) -> None:
    handler.go.set()
    app = wrap(handler, limits={"request_body": 10}, coalesce=["/**"])
    done = await call(app, "/", "GET", [(b"content-length", b"20")], [b"x" * 20])
    assert (done.status, handler.calls) == (201, 1)


async def test_too_many_of_one_owner_are_refused_before_anything_runs(handler: Handler) -> None:
    app = wrap(handler, budget=0, owner=lambda scope: "ada", limits={"operations_per_owner": 1})
    assert (await call(app, "/", "POST")).status == 202
    refused = await call(app, "/", "POST")
    assert (refused.status, refused.header(b"retry-after")) == (429, b"5")
    assert (await call(app, "/", "POST", [KEY])).status == 429
    await handler.begun.wait()
    assert handler.calls == 1


@pytest.mark.parametrize("limit", ["operations", "operations_per_owner", "operations_in_store"])
@pytest.mark.parametrize("budget", [0, 0.01])
async def test_a_limit_keeps_nobody_from_the_operation_under_its_key(
    handler: Handler, limit: str, budget: float
) -> None:
    app = wrap(handler, budget=budget, owner=lambda scope: "ada", limits={limit: 1})
    accepted = await call(app, "/", "POST", [KEY])
    again = await call(app, "/", "POST", [KEY])
    assert (again.status, path_of(again)) == (202, path_of(accepted))
    other = await call(app, "/", "POST", [(b"idempotency-key", b"other")])
    assert other.status in (429, 503)
    assert handler.calls == 1


async def test_over_the_limit_what_exceeds_its_budget_stays_synchronous(
    handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    app = wrap(handler, budget=0.01, limits={"operations_in_store": 1})
    assert (await call(app, "/", "POST")).status == 202
    second = Call(app, http_scope("/", "POST"))
    async with anyio.create_task_group() as group:
        group.start_soon(second.run)
        with anyio.fail_after(60):
            while "stays synchronous" not in caplog.text:  # its budget is over
                await anyio.lowlevel.checkpoint()
        assert second.sent == []
        handler.go.set()
    assert second.status == 201


@pytest.mark.parametrize(
    ("options", "sent", "is_warned"),
    [
        ({}, [], True),
        ({}, [(b"authorization", b"ours")], False),
        ({}, [(b"x-api-key", b"ours")], True),
        ({"identity_headers": ["X-API-Key"]}, [(b"x-api-key", b"ours")], False),
        ({"identity_headers": []}, [], False),
        ({"owner": lambda scope: None}, [], False),
    ],
)
async def test_a_key_that_comes_with_nothing_that_says_whose_it_is_is_warned_of_once(
    handler: Handler,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    sent: list[tuple[bytes, bytes]],
    is_warned: bool,
) -> None:
    handler.go.set()
    app = wrap(handler, budget=60, **options)
    for _ in range(2):
        await call(app, "/", "POST", [KEY, *sent])
    assert ("identity_headers" in caplog.text) is is_warned
    assert len(caplog.records) == int(is_warned)


async def test_identical_requests_share_one_operation_while_it_runs(handler: Handler) -> None:
    app, calls = wrap(handler, budget=60, coalesce=["/shared"]), list[Call]()

    async def ask(path: str = "/shared") -> None:
        calls.append(await call(app, path))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
        group.start_soon(ask, "/own")
        watcher = app._gateway.monitor.watcher
        while handler.calls < 2 or watcher.waiters < 2:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)
        handler.go.set()
    assert [done.status for done in calls] == [201] * 4
    assert handler.calls == 2
    await ask()
    assert handler.calls == 3


async def test_what_was_coalesced_answers_repetitions_for_some_seconds_after_a_202(
    handler: Handler,
) -> None:
    clock = Clock()
    app = wrap(handler, store=MemoryStore(clock=clock), budget=0, coalesce=["/**"])
    accepted = await call(app, "/")
    handler.go.set()
    await follow(app, accepted)
    clock.now += 9
    assert (await call(app, "/")).status == 201
    assert handler.calls == 1
    clock.now += 2
    accepted = await call(app, "/")
    assert accepted.status == 202
    await follow(app, accepted)
    assert handler.calls == 2


async def test_a_handler_knows_its_operation_from_the_start() -> None:
    seen = list[str | None]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current_operation().id)
        await answer(send)

    accepted = await call(wrap(app, budget=0), "/")
    with anyio.fail_after(PATIENT):
        while not seen:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)
    assert path_of(accepted).endswith(str(seen[0]))


async def test_neither_timeout_nor_abandonment_counts_while_the_client_waits(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "SHORTEST_PATIENCE", 0)
    app = wrap(handler, budget=60, timeout=0.05, abandon_after=0.05)
    calling = Call(app, http_scope("/", "POST", [KEY]))
    async with anyio.create_task_group() as group:
        group.start_soon(calling.run)
        await handler.begun.wait()
        await anyio.sleep(0.1)
        await anyio.to_thread.run_sync(engine_of(app).beat)
        handler.go.set()
    assert calling.status == 201


async def until_late(app: RaincheckMiddleware, operation_id: str) -> None:
    """Have the clockwork turn until the timeout of an operation was taken note of."""
    with anyio.fail_after(PATIENT):
        while not engine_of(app).store.get(operation_id).is_terminal:  # type: ignore[union-attr]
            await anyio.to_thread.run_sync(engine_of(app).beat)


class Gate(MemoryStore):
    """Has an operation recorded and then keeps the answer for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.made, self.may = list[Operation](), threading.Event()

    def create(self, *arguments: Any) -> Operation:
        self.made.append(super().create(*arguments))
        assert self.may.wait(30)
        return self.made[-1]


async def test_both_count_for_who_has_left_while_it_was_recorded(handler: Handler) -> None:
    store = Gate()
    app = wrap(handler, store=store, budget=60, timeout=0.05)
    async with anyio.create_task_group() as group:
        group.start_soon(Call(app, http_scope("/", "POST", [KEY])).run)
        while not store.made:  # noqa: ASYNC110 - set by a thread
            await anyio.sleep(0.002)
        group.cancel_scope.cancel()  # as servers do
    store.may.set()
    await until_late(app, store.made[0].id)


@pytest.mark.usefixtures("by_hand")  # or a beat might end it before its client asks again
@pytest.mark.parametrize("budget", [60, None])
async def test_both_count_from_when_the_client_has_left(
    handler: Handler, budget: float | None
) -> None:
    app = wrap(handler, budget=budget, timeout=0.05)
    leaving = Call(app, http_scope("/", "POST", [KEY]))
    async with anyio.create_task_group() as group:
        group.start_soon(leaving.run)
        await handler.begun.wait()
        leaving.leave()
        with anyio.fail_after(PATIENT):
            again = await call(app, "/", "POST", [KEY, (b"prefer", b"wait=0")])
        await until_late(app, path_of(again).rpartition("/")[2])


async def test_both_count_from_the_202(handler: Handler) -> None:
    app = wrap(handler, budget=0.05, timeout=0.05)
    accepted = await call(app, "/", "POST", [KEY])
    await anyio.sleep(0.1)
    await anyio.to_thread.run_sync(engine_of(app).beat)
    done = await follow(app, accepted)
    assert (done.status, b'"timeout"' in done.content) == (500, True)


async def test_an_upload_that_is_too_large_to_be_deferred_arrives_whole() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, await read_body(receive))

    wrapped = wrap(app, budget=0, limits={"request_body": 10})
    body = [b"x" * 9] * 5
    with anyio.fail_after(PATIENT):
        done = await call(wrapped, "/", "POST", [(b"content-length", b"45")], body)
    assert (done.status, done.content) == (200, b"x" * 45)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_send_that_its_handler_gives_up_loses_nothing(tmp_path: Any) -> None:
    parts = [bytes([n]) * 300_000 for n in range(12)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in parts:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.0005):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    wrapped = wrap(app, budget=0, store=f"sqlite:///{tmp_path}/operations.db")
    done = await follow(wrapped, await call(wrapped))
    assert done.content == b"".join(parts)
    engine_of(wrapped).close()
