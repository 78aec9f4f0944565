"""A large body that was read ahead lies in a file: whole, off the event loop, and not for long."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import tempfile
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from raincheck.asgi.file_threads import in_file_thread
from raincheck.asgi.upload import IN_MEMORY, Upload
from raincheck.http.spool import Spooled, SpoolFile
from tests.support.asgi import PATIENT, Call, call, follow, http_scope, path_of
from tests.support.handlers import SHORT, answer, read_body, until_deferred, until_said, wrap

pytestmark = pytest.mark.anyio

LENGTH = [(b"content-length", b"1")]  # that there is a body is all that matters here
GENEROUS = {"request_body": 100 * IN_MEMORY}


def files() -> list[str]:
    """Name the temporary files that this process has open."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(descriptor))
        except FileNotFoundError:
            continue
    return [name for name in found if name.startswith(f"{tempfile.gettempdir()}{os.sep}")]


async def until_closed() -> None:
    with anyio.fail_after(PATIENT):
        while files():  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a test's temporary files where those of no other are."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def body(*sizes: int) -> list[bytes]:
    """Return chunks of a body in which no two places are alike."""
    source = random.Random(1)  # noqa: S311 - the same every time
    return [source.randbytes(size) for size in sizes]


@pytest.mark.parametrize(
    "sizes",
    [
        [IN_MEMORY - 1],
        [IN_MEMORY],
        [IN_MEMORY + 1],
        [IN_MEMORY, 0],
        [IN_MEMORY, 1],
        [IN_MEMORY, 1, 0],
        [0, 3 * IN_MEMORY, 0, 1],
        [100_000] * 50,
        [70_000, 0] * 40,
    ],
    ids=str,
)
@pytest.mark.parametrize("budget", [0, SHORT])
async def test_a_large_body_arrives_whole(sizes: list[int], budget: float) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        await answer(send, await read_body(receive))

    wrapped, chunks = wrap(app, budget=budget, limits=GENEROUS), body(*sizes)
    accepted = await call(wrapped, "/", "POST", LENGTH, chunks)
    assert (await follow(wrapped, accepted)).content == b"".join(chunks)
    await until_closed()


async def test_a_handler_may_begin_before_and_go_on_after_the_202() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        found = [(await receive())["body"] for _ in range(3)]
        await until_deferred()
        await answer(send, b"".join(found) + await read_body(receive))

    wrapped, chunks = wrap(app, limits=GENEROUS), body(*[300_000] * 20)
    accepted = await call(wrapped, "/", "POST", LENGTH, chunks)
    assert (await follow(wrapped, accepted)).content == b"".join(chunks)
    await until_closed()


async def test_a_handler_may_read_while_its_body_is_read_ahead() -> None:
    class Hesitant(Call):
        async def receive(self) -> Any:
            if self.received == 20:
                reads.set()
                await anyio.sleep(2 * SHORT)
            return await super().receive()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reads.wait()
        await answer(send, await read_body(receive))

    reads = anyio.Event()
    wrapped, chunks = wrap(app, budget=0, limits=GENEROUS), body(*[100_000] * 40)
    accepted = await Hesitant(wrapped, http_scope("/", "POST", LENGTH), chunks).run()
    assert (await follow(wrapped, accepted)).content == b"".join(chunks)
    await until_closed()


async def test_a_handler_that_stops_waiting_loses_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        found, more = b"", True
        while more:
            message: Any = None
            with anyio.CancelScope() as scope_of_one:
                scope_of_one.cancel()
                message = await receive()
            with anyio.move_on_after(0.0005):
                message = message or await receive()
            message = message or await receive()
            found, more = found + message["body"], message["more_body"]
        await answer(send, found)

    wrapped, chunks = wrap(app, budget=0, limits=GENEROUS), body(*[100_000] * 40)
    accepted = await call(wrapped, "/", "POST", LENGTH, chunks)
    assert (await follow(wrapped, accepted)).content == b"".join(chunks)


async def test_of_two_readers_each_byte_reaches_one() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        found: list[bytes] = []

        async def read() -> None:
            while (message := await receive())["type"] == "http.request":
                found.append(message["body"])
                if not message["more_body"]:
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(read)
        await answer(send, b"%d" % sum(map(len, found)))

    wrapped, chunks = wrap(app, budget=0, limits=GENEROUS), body(*[100_000] * 40)
    accepted = await call(wrapped, "/", "POST", LENGTH, chunks)
    assert (await follow(wrapped, accepted)).content == b"4000000"


async def test_the_event_loop_touches_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def note(module: Any, name: str) -> None:
        work = getattr(module, name)

        def noted(*arguments: Any, **options: Any) -> Any:
            threads.append(threading.get_ident())
            return work(*arguments, **options)

        monkeypatch.setattr(module, name, noted)

    threads: list[int] = []
    for name in ("pread", "pwrite"):
        note(os, name)
    note(tempfile, "TemporaryFile")
    await test_a_large_body_arrives_whole([3 * IN_MEMORY], 0)
    assert len(threads) > 3
    assert threading.get_ident() not in threads


# --- what becomes of the file --------------------------------------------------------------------


def test_a_process_that_is_killed_at_once_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_killed(*arguments: object, **options: object) -> None:
        raise SystemExit

    monkeypatch.setattr(os, "unlink", is_killed)
    with contextlib.suppress(SystemExit):
        SpoolFile(Spooled(1)).close()
    assert list(tmp_path.iterdir()) == []


async def test_a_body_that_is_never_read_is_deleted() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        assert len(files()) == 1
        await answer(send)

    wrapped = wrap(app, budget=0, limits=GENEROUS)
    accepted = await call(wrapped, "/", "POST", LENGTH, body(3 * IN_MEMORY))
    assert (await follow(wrapped, accepted)).content == b"done"
    await until_closed()


async def test_the_body_of_a_cancelled_handler_is_deleted() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await anyio.sleep_forever()

    wrapped = wrap(app, budget=0, limits=GENEROUS)
    accepted = await call(wrapped, "/", "POST", LENGTH, body(10, 3 * IN_MEMORY))
    await call(wrapped, path_of(accepted), "DELETE")
    assert (await follow(wrapped, accepted)).status == 410
    await until_closed()


async def test_the_body_of_a_handler_that_raises_is_deleted() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        await receive()
        raise ValueError

    wrapped = wrap(app, budget=0, limits=GENEROUS)
    accepted = await call(wrapped, "/", "POST", LENGTH, body(3 * IN_MEMORY))
    assert (await follow(wrapped, accepted)).status == 500
    await until_closed()


async def test_a_body_over_the_limit_arrives_whole_and_is_deleted() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(5 * SHORT)
        await answer(send, await read_body(receive))

    chunks = body(*[500_000] * 10)
    wrapped = wrap(app, limits={"request_body": 2 * IN_MEMORY})
    done = await call(wrapped, "/", "POST", LENGTH, chunks)
    assert (done.status, done.content) == (200, b"".join(chunks))
    assert files() == []


async def test_the_body_of_a_client_that_leaves_is_deleted() -> None:
    class Leaves(Call):
        async def receive(self) -> Any:
            if self.received == 3:
                return {"type": "http.disconnect"}
            self.received += 1
            return {"type": "http.request", "body": b"x" * IN_MEMORY, "more_body": True}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(3 * SHORT)
        size = 0
        while (message := await receive())["type"] == "http.request":
            size += len(message["body"])
        seen.append(size)

    seen: list[int] = []
    wrapped = wrap(app, limits=GENEROUS)
    done = await Leaves(wrapped, http_scope("/", "POST", LENGTH)).run()
    assert (done.sent, seen) == ([], [3 * IN_MEMORY])
    assert files() == []


async def test_the_body_of_a_server_that_gives_up_is_deleted() -> None:
    class Stuck(Call):
        async def receive(self) -> Any:
            if self.received == 3:
                stuck.set()
                await anyio.sleep_forever()
            self.received += 1
            return {"type": "http.request", "body": b"x" * IN_MEMORY, "more_body": True}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep_forever()

    stuck = anyio.Event()
    server = Stuck(wrap(app, limits=GENEROUS), http_scope("/", "POST", LENGTH))
    async with anyio.create_task_group() as group:
        group.start_soon(server.run)
        await stuck.wait()
        assert len(files()) == 1
        group.cancel_scope.cancel()
    await until_closed()


@pytest.mark.parametrize("where", ["TemporaryFile", "pwrite"])
async def test_a_full_disk_leaves_the_request_synchronous_and_whole(
    monkeypatch: pytest.MonkeyPatch, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_said(caplog, "No space left")
        await answer(send, await read_body(receive))

    monkeypatch.setattr(os if where == "pwrite" else tempfile, where, fail)
    chunks = body(*[500_000] * 6)
    done = await call(wrap(app, limits=GENEROUS), "/", "POST", LENGTH, chunks)
    assert (done.status, done.content) == (200, b"".join(chunks))
    assert "No space left" in caplog.text
    assert files() == []


async def test_an_upload_that_nobody_closes_is_closed_with_its_last_reference() -> None:
    kept = Upload(10 * IN_MEMORY, Spooled(10 * IN_MEMORY))
    await kept.put({"type": "http.request", "body": b"x" * 2 * IN_MEMORY, "more_body": True})
    assert len(files()) == 1
    del kept
    await until_closed()  # the thread that has written may not have let go of it yet


@pytest.mark.parametrize("headers", [[], [(b"idempotency-key", b"8e03978e")]])
async def test_what_there_is_no_thread_to_put_aside_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, headers: list[Any]
) -> None:
    failures = list[Any]()

    async def fails_once(work: Any, *arguments: Any) -> Any:
        if work is SpoolFile and not failures:
            failures.append(work)
            raise RuntimeError("can't start new thread")
        return await in_file_thread(work, *arguments)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not failures:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.002)
        await answer(send, await read_body(receive))

    monkeypatch.setattr("raincheck.asgi.upload.in_file_thread", fails_once)
    chunks = body(*[300_000] * 8)
    done = await call(wrap(app, limits=GENEROUS), "/", "POST", [*LENGTH, *headers], chunks)
    assert failures
    if headers:
        assert done.status == 503
    else:
        assert (done.status, done.content) == (200, b"".join(chunks))
