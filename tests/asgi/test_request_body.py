"""What becomes of the request body and of the connection it comes on."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from raincheck.asgi.upload import Upload
from raincheck.http.spool import Spooled
from tests.support.asgi import PATIENT, Call, call, follow, http_scope
from tests.support.handlers import SHORT, Untouchable, answer, read_body, until_deferred, wrap

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("framing", [(b"content-length", b"6"), (b"transfer-encoding", b"chunked")])
async def test_a_body_that_was_not_read_before_the_202_reaches_the_handler(
    framing: tuple[bytes, bytes],
) -> None:
    event = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await event.wait()
        await answer(send, await read_body(receive))

    wrapped = wrap(app)
    accepted = await call(wrapped, "/", "POST", [framing], [b"ab", b"cd", b"ef"])
    assert accepted.received == 3
    event.set()
    assert (await follow(wrapped, accepted)).content == b"abcdef"


async def test_the_202_waits_for_an_upload_that_the_handler_is_reading() -> None:
    class SlowUpload(Call):
        async def receive(self) -> Any:
            await anyio.sleep(2 * SHORT)
            return await super().receive()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = await read_body(receive)
        await event.wait()
        await answer(send, body)

    event = anyio.Event()
    wrapped = wrap(app)
    headers = [(b"content-length", b"3")]
    accepted = await SlowUpload(wrapped, http_scope("/", "POST", headers), b"a b c".split()).run()
    event.set()
    assert (await follow(wrapped, accepted)).content == b"abc"


async def test_a_body_over_the_limit_is_not_promoted_and_still_whole() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(5 * SHORT)
        await answer(send, await read_body(receive))

    wrapped = wrap(app, limits={"request_body": 10})
    done = await call(wrapped, "/", "POST", [(b"content-length", b"40")], [b"x" * 8] * 5)
    assert (done.status, done.content) == (200, b"x" * 40)


async def test_an_answer_before_the_end_of_an_upload_streams_through() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(3 * SHORT)
        await answer(send, b"too large", 413)

    class EndlessUpload(Call):
        async def receive(self) -> Any:
            if self.received == 1:
                await self._gone.wait()
                return {"type": "http.disconnect"}
            self.received += 1
            return {"type": "http.request", "body": b"x", "more_body": True}

    server = EndlessUpload(wrap(app), http_scope("/", "POST", [(b"content-length", b"9")]))
    with anyio.fail_after(PATIENT):
        await server.run()
    assert (server.status, server.content) == (413, b"too large")


async def test_a_handler_and_the_reader_ahead_of_it_never_read_at_once() -> None:
    class OneReader(Call):
        readers = 0

        async def receive(self) -> Any:
            self.readers += 1
            assert self.readers == 1
            await anyio.lowlevel.checkpoint()
            message = await super().receive()
            self.readers -= 1
            return message

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = await read_body(receive)
        with anyio.move_on_after(SHORT):
            body += (await receive())["type"].encode()
        await answer(send, body)

    wrapped = wrap(app, budget=0)
    scope = http_scope("/", "POST", [(b"content-length", b"3")])
    accepted = await OneReader(wrapped, scope, b"a b c".split()).run()
    assert (await follow(wrapped, accepted)).content == b"abc"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_body_that_nobody_announced_is_empty_after_the_202(method: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await event.wait()
        await answer(send, b"[%s]" % await read_body(receive))

    event = anyio.Event()
    wrapped = wrap(app)
    accepted = await call(wrapped, method=method)
    event.set()
    assert (await follow(wrapped, accepted)).content == b"[]"


async def test_http_2_may_have_a_body_without_a_length() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await event.wait()
        await answer(send, await read_body(receive))

    event = anyio.Event()
    wrapped = wrap(app)
    accepted = await call(wrapped, "/", "POST", body=[b"ab", b"c"], http_version="2")
    event.set()
    assert (await follow(wrapped, accepted)).content == b"abc"


async def test_before_the_202_a_disconnect_is_seen_as_without_raincheck() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append(await receive())

    server = Call(wrap(app, budget=60, store=Untouchable()), http_scope())
    server.leave()
    await server.run()
    assert seen == [{"type": "http.disconnect"}]


async def test_a_client_that_left_during_its_upload_gets_no_202() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(3 * SHORT)
        while (message := await receive())["type"] == "http.request":
            pass
        seen.append(message)

    class Leaves(Call):
        async def receive(self) -> Any:
            self.received += 1
            if self.received > 1:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": b"x", "more_body": True}

    seen: list[Any] = []
    headers = [(b"content-length", b"9")]
    server = await Leaves(wrap(app, store=Untouchable()), http_scope("/", "POST", headers)).run()
    assert (server.sent, seen) == ([], [{"type": "http.disconnect"}])


async def test_after_the_202_there_is_no_disconnect() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await until_deferred()
        with anyio.move_on_after(SHORT) as waited:
            await receive()
        await answer(send, b"%d" % waited.cancelled_caught)

    wrapped = wrap(app)
    assert (await follow(wrapped, await call(wrapped))).content == b"1"


async def test_starlettes_way_to_ask_for_a_disconnect_goes_on_to_work() -> None:
    async def is_disconnected(receive: Any) -> bool:
        message: Any = {}
        with anyio.CancelScope() as scope:
            scope.cancel()
            message = await receive()
        return bool(message.get("type") == "http.disconnect")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        answers = [await is_disconnected(receive)]
        server.leave()
        answers.append(await is_disconnected(receive))
        await answer(send, repr(answers).encode())

    class Server(Call):
        async def receive(self) -> Any:
            if self._gone.is_set():
                return {"type": "http.disconnect"}
            return await super().receive()

    server = Server(wrap(app, budget=60), http_scope())
    await server.run()
    assert server.content == b"[False, True]"


@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_pieces_are_joined_in_no_buffer_of_the_server(kind: Any) -> None:
    upload, own = Upload(100, Spooled(0)), kind(bytearray(b"abc"))
    await upload.put({"type": "http.request", "body": own, "more_body": True})
    await upload.put({"type": "http.request", "body": b"def", "more_body": False})
    assert await upload.take() == {"type": "http.request", "body": b"abcdef", "more_body": False}
    assert own == b"abc"
