"""Middleware that has read the body gives it to those inside in ways that no server has."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from raincheck.asgi.upload import MOST_EMPTY, Upload
from raincheck.handler import CURRENT
from raincheck.http.spool import Spooled
from tests.support.asgi import PATIENT, Call, call, follow, http_scope, path_of
from tests.support.handlers import SHORT, answer, read_body, wrap

pytestmark = pytest.mark.anyio

KEY = (b"idempotency-key", b"8e03978e")
BODY = {"type": "http.request", "body": b"abc", "more_body": False}
LENGTH = (b"content-length", b"3")


class Again(Call):
    """Gives the body again and again."""

    async def receive(self) -> Any:
        return BODY


class Left(Call):
    """Gives the body once, and then says that the client has left."""

    async def receive(self) -> Any:
        self.received += 1
        return BODY if self.received == 1 else {"type": "http.disconnect"}


class Yielding(Left):
    """Does so after a moment, as one does that has a queue."""

    async def receive(self) -> Any:
        await anyio.lowlevel.checkpoint()
        return await super().receive()


class Empty(Call):
    """Never comes to a byte of the body, nor to its end."""

    async def receive(self) -> Any:
        return {"type": "http.request", "body": b"", "more_body": True}


RECIPES = [Again, Left, Yielding]


async def slow(scope: Any, receive: Any, send: Any) -> None:
    body = await read_body(receive)
    await anyio.sleep(3 * SHORT)
    await answer(send, body)


@pytest.mark.parametrize("recipe", RECIPES)
async def test_a_keyed_request_is_answered_within_its_budget(recipe: type[Call]) -> None:
    app = wrap(slow, budget=60)
    with anyio.fail_after(PATIENT):
        done = await recipe(app, http_scope("/", "POST", [KEY, LENGTH])).run()
        assert (done.status, done.content) == (200, b"abc")


@pytest.mark.parametrize("recipe", RECIPES)
async def test_a_long_poll_waits_for_the_end(recipe: type[Call]) -> None:
    app = wrap(slow, budget=0)
    accepted = await call(app, "/", "POST", [LENGTH], [b"abc"])
    with anyio.fail_after(PATIENT):
        poll = await recipe(
            app, http_scope(path_of(accepted), headers=[(b"prefer", b"wait=20")])
        ).run()
        assert (poll.status, poll.content) == (200, b"abc")


async def test_a_body_that_is_given_twice_is_kept_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        await receive()  # to see whether the client is there
        kept.append(b"".join(exchange().body()))
        await answer(send)

    def exchange() -> Any:
        return CURRENT.get()

    kept: list[bytes] = []
    wrapped = wrap(app, budget=60, retry={"/": True}, max_attempts=2)
    done = await Again(wrapped, http_scope("/", "POST", [LENGTH])).run()
    assert done.error is None
    assert kept == [b"abc"]


@pytest.mark.parametrize(("headers", "status"), [([], 200), ([KEY], 413)])
async def test_a_body_of_nothing_is_not_read_for_ever(headers: list[Any], status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(3 * SHORT)
        await answer(send)

    with anyio.fail_after(PATIENT):
        done = await Empty(wrap(app), http_scope("/", "POST", [LENGTH, *headers])).run()
    assert done.status == status


async def test_what_is_kept_of_a_body_is_little_more_than_its_bytes() -> None:
    kept = Upload(10**6, Spooled(0))
    for _ in range(200_000):
        await kept.put({"type": "http.request", "body": b"x", "more_body": True})
    for _ in range(MOST_EMPTY):
        await kept.put({"type": "http.request", "body": b"", "more_body": True})
    assert len(kept._messages) < 10
    assert b"".join(kept.pieces()) == b"x" * 200_000
    assert not kept.is_too_large


@pytest.mark.parametrize("message", ["http.response.body", "http.response.early_hint"])
async def test_a_handler_that_sends_nothing_for_ever_lets_others_live(message: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": message, "body": b"", "more_body": True, "links": []})

    wrapped = wrap(app, budget=0)
    with anyio.fail_after(PATIENT):
        accepted = await call(wrapped)
        assert (await call(wrapped, path_of(accepted), "DELETE")).status == 202
        assert (await follow(wrapped, accepted)).status == 410


async def test_trailers_without_end_end_their_operation() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b""})
        more = {"headers": [(b"x-n", b"1")] * 10, "more_trailers": True}
        while True:
            await send({"type": "http.response.trailers", **more})

    wrapped = wrap(app, budget=0)
    with anyio.fail_after(PATIENT):
        accepted = await call(wrapped)
        assert (await follow(wrapped, accepted)).status == 500
