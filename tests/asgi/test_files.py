"""Responses that an application sends as files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.responses import FileResponse

from tests.support.asgi import call, follow
from tests.support.handlers import answer, until_deferred, wrap

pytestmark = pytest.mark.anyio


CONTENT = bytes(n % 251 for n in range(600_000))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


async def test_a_file_sent_by_path_is_captured(file: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": str(file)})

    wrapped = wrap(app, budget=0)
    assert (await follow(wrapped, await call(wrapped))).content == CONTENT


async def test_parts_of_a_file_sent_by_descriptor_are_captured(file: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        descriptor = os.open(file, os.O_RDONLY)
        kind = {"type": "http.response.zerocopysend", "file": descriptor}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send(kind | {"offset": 100, "count": 400_000, "more_body": True})
        await send(kind | {"count": 5, "more_body": True})
        await send(kind)
        os.close(descriptor)

    wrapped = wrap(app, budget=0)
    done = await follow(wrapped, await call(wrapped))
    assert done.content == CONTENT[100:400_100] + CONTENT


async def test_what_the_server_can_do_is_not_offered_after_the_202() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        before = list(scope["extensions"])
        await until_deferred()
        await answer(send, repr([before, list(scope["extensions"])]).encode())

    wrapped = wrap(app)
    offered: dict[str, Any] = {"http.response.pathsend": {}}
    accepted = await call(wrapped, extensions=offered)
    assert (await follow(wrapped, accepted)).content == b"[['http.response.pathsend'], []]"
    assert offered == {"http.response.pathsend": {}}


async def test_a_file_response_of_starlette_comes_back_whole(file: Path) -> None:
    is_closed = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await FileResponse(file, filename="a.bin")(scope, receive, send)
        is_closed.set()

    wrapped = wrap(app, budget=0)
    offered: dict[str, Any] = {"http.response.pathsend": {}}
    done = await follow(wrapped, await call(wrapped, extensions=offered))
    assert done.content == CONTENT
    assert done.header(b"content-length") == b"%d" % len(CONTENT)
    assert done.header(b"content-disposition") == b'attachment; filename="a.bin"'
    await is_closed.wait()  # the response is there before the file is closed
