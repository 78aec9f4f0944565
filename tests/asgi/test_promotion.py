"""When a request is promoted, and when it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from raincheck import StoreUnavailable, current_operation, long_running
from raincheck.handler import CURRENT
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import PATIENT, Call, call, engine_of, follow, http_scope, path_of
from tests.support.handlers import (
    SHORT,
    Untouchable,
    answer,
    slow,
    until_deferred,
    until_said,
    wrap,
)

pytestmark = pytest.mark.anyio


async def test_a_slow_request_is_promoted_and_its_handler_goes_on() -> None:
    event = anyio.Event()
    app = wrap(slow(event))
    accepted = await call(app)
    assert (await call(app, path_of(accepted))).status == 202
    event.set()
    assert (await follow(app, accepted)).content == b"done"


async def test_many_slow_requests_share_a_timer() -> None:
    event = anyio.Event()
    app = wrap(slow(event))
    found: list[Call] = []

    async def one() -> None:
        found.append(await call(app))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(one)
    event.set()
    assert len({path_of(accepted) for accepted in found}) == 50
    for accepted in found:
        assert (await follow(app, accepted)).content == b"done"


async def test_a_marked_handler_is_deferred_before_its_budget() -> None:
    @long_running
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    wrapped = wrap(app, budget=60)
    assert (await follow(wrapped, await call(wrapped))).content == b"done"


async def test_a_mark_does_not_count_after_the_response_has_started() -> None:
    @long_running
    async def late() -> None: ...

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await late()
        await send({"type": "http.response.body", "body": b"done"})

    assert (await call(wrap(app, store=Untouchable()))).content == b"done"


@pytest.mark.parametrize("mode", ["prefer", "auto"])
async def test_in_mode_prefer_even_marked_handlers_need_the_preference(mode: str) -> None:
    @long_running
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    done = await call(wrap(app, mode=mode, budget=60))
    assert done.status == (200 if mode == "prefer" else 202)


class Full(MemoryStore):
    """Takes no operation."""

    def create(self, *_: Any) -> Any:
        raise StoreUnavailable("no space")


async def test_above_the_limit_of_requests_that_stay_synchronous_none_begins() -> None:
    calls = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["path"])
        await answer(send)

    wrapped = wrap(app, budget=0, store=Full(), limits={"synchronous": 0})
    assert (await call(wrapped)).status == 200  # that the store fails was not known
    refused = await call(wrapped)
    assert (refused.status, refused.header(b"retry-after")) == (503, b"5")
    assert b"can't be recorded" in refused.content
    assert len(calls) == 1


async def test_what_cannot_be_recorded_stays_synchronous(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_said(caplog, "no space")
        await answer(send)

    done = await call(wrap(app, store=Full()))
    assert (done.status, done.content) == (200, b"done")
    assert "no space" in caplog.text


async def test_over_the_limit_of_operations_a_slow_request_stays_synchronous() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(5 * SHORT)
        await answer(send)

    assert (await call(wrap(app, limits={"operations": 0}))).status == 200


async def test_an_owner_that_cannot_be_told_keeps_the_request_synchronous(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def owner(scope: Any) -> str:
        raise KeyError("user")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_said(caplog, "KeyError")
        await answer(send)

    assert (await call(wrap(app, owner=owner))).status == 200
    assert "KeyError" in caplog.text


def test_one_application_serves_many_event_loops() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        await answer(send)

    async def run() -> bytes:
        return (await follow(wrapped, await call(wrapped))).content

    wrapped = wrap(app)
    for backend in ("asyncio", "trio", "asyncio"):
        assert anyio.run(run, backend=backend) == b"done"


async def test_a_background_task_is_not_part_of_the_response() -> None:
    event = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)
        await event.wait()

    wrapped = wrap(app, budget=0)
    assert (await follow(wrapped, await call(wrapped))).content == b"done"
    event.set()


async def test_what_a_finished_request_left_behind_defers_nothing() -> None:
    late = []

    @long_running
    async def marked() -> None:
        late.append(current_operation().id)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)
        await marked()

    assert (await call(wrap(app, budget=60, store=Untouchable()))).status == 200
    assert late == [None]


@pytest.fixture
async def no_threads() -> AsyncIterator[None]:
    """Leave handlers none of anyio's threads."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    holders = [object() for _ in range(int(limiter.total_tokens))]
    for holder in holders:
        limiter.acquire_on_behalf_of_nowait(holder)
    yield
    for holder in holders:
        limiter.release_on_behalf_of(holder)


@pytest.mark.usefixtures("no_threads")
async def test_a_mark_with_terms_waits_for_no_thread_of_handlers() -> None:
    @long_running(timeout=60)
    async def marked() -> None: ...

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await marked()
        await answer(send)

    wrapped = wrap(app, budget=0)
    assert (await follow(wrapped, await call(wrapped))).status == 200


async def test_frameworks_may_change_the_scope_in_place() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["root_path"], scope["path"] = "/mounted", "/else"
        await until_deferred()
        await answer(send)

    wrapped = wrap(app, location="path")
    accepted = await call(wrapped, "/v1/x", root_path="/v1")
    location = accepted.header(b"location")
    assert location is not None
    assert location.startswith(b"/v1/operations/")
    done = await follow(wrapped, accepted, root_path="/v1")
    assert done.content == b"done"
    with anyio.fail_after(PATIENT):
        while engine_of(wrapped).is_busy:  # noqa: ASYNC110 - it lands after its end is recorded
            await anyio.sleep(SHORT / 10)


async def test_a_thread_that_marks_too_late_holds_nothing_up() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while current_operation().id is None:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(SHORT)
        exchange: Any = CURRENT.get()
        exchange.hold = True  # as a thread leaves it that looked just before the decision
        await answer(send)

    wrapped = wrap(app)
    assert (await follow(wrapped, await call(wrapped))).content == b"done"


EVENTS = (b"accept", b"text/event-stream")
LEFT_ALONE: dict[str, tuple[list[tuple[bytes, bytes]], bytes]] = {
    "events": ([EVENTS], b""),
    "mcp": ([(b"mcp-session-id", b"1868a90c"), (b"accept", b"application/json")], b""),
    "engine.io": ([(b"accept", b"*/*")], b"EIO=4&transport=polling&t=abc&sid=x"),
    "download": ([(b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"empty")], b""),
}


@pytest.mark.parametrize("is_marked", [False, True])
@pytest.mark.parametrize("options", [{"budget": 0}, {}])
@pytest.mark.parametrize("kind", LEFT_ALONE)
async def test_who_is_left_alone_is_never_deferred_unless_the_option_says_so(
    kind: str, is_marked: bool, options: dict[str, Any]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(4 * SHORT)
        await answer(send)

    handler = long_running(app) if is_marked else app
    headers, query = LEFT_ALONE[kind]
    others = [other for other in LEFT_ALONE if other != kind]
    for left_alone, status in (([*others, kind], 200), (others, 202)):
        wrapped = wrap(handler, left_alone=left_alone, **options)
        answered = await call(wrapped, "/", "POST", headers, query_string=query)
        assert answered.status == status


@pytest.mark.parametrize("is_marked", [False, True])
@pytest.mark.parametrize("options", [{"budget": 0}, {"mode": "marked"}, {"mode": "prefer"}, {}])
async def test_who_asks_for_events_is_never_deferred(
    is_marked: bool, options: dict[str, Any]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(4 * SHORT)
        await answer(send)

    wrapped = wrap(long_running(app) if is_marked else app, **options)
    for prefer in ([], [(b"prefer", b"respond-async")], [(b"prefer", b"wait=0")]):
        assert (await call(wrapped, "/", "GET", [EVENTS, *prefer])).status == 200


async def test_a_stream_of_events_is_not_counted_among_those_that_a_failing_store_keeps() -> None:
    go = anyio.Event()
    app = wrap(slow(go))
    calling = Call(app, http_scope("/", "GET", [EVENTS]))
    async with anyio.create_task_group() as group:
        group.start_soon(calling.run)
        await anyio.sleep(4 * SHORT)
        assert engine_of(app).health.staying == 0
        go.set()
    assert calling.status == 200
