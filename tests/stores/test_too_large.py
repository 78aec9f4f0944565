"""A response over the limit ends its operation clearly, and nothing of it stays."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from raincheck.contracts import Store
from raincheck.errors import BodyMissing
from raincheck.stores.memory import MemoryStore
from raincheck.stores.objects import with_bodies_at
from raincheck.testing.material import MIB
from tests.support import asgi, wsgi
from tests.support.handlers import wrap as wrap_asgi

LIMIT = 9 * MIB
PIECE = b"x" * MIB


class Noting(MemoryStore):
    """Notes which chunks were written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[str, int, int]] = []

    def write_chunk(self, operation_id: str, fence: int, n: int, data: bytes) -> None:
        super().write_chunk(operation_id, fence, n, data)
        self.written.append((operation_id, fence, n))


@pytest.fixture
def base() -> Noting:
    return Noting()


@pytest.fixture(params=["in the store", "as objects"])
def store(request: pytest.FixtureRequest, base: Noting, tmp_path: Path) -> Iterator[Store]:
    if request.param == "in the store":
        yield base
    else:
        with closing(with_bodies_at(base, f"file://{tmp_path}/objects")) as store:
            yield store


def assert_nothing_stays(base: Noting, store: Store, directory: Path) -> None:
    """Wait for what is discarded once the operation has ended."""
    assert base.written
    deadline = time.monotonic() + 10
    while any(is_there(store, *chunk) for chunk in base.written) or files(directory):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def is_there(store: Store, operation_id: str, fence: int, n: int) -> bool:
    try:
        return bool(list(store.read_chunks(operation_id, fence, n, n + 1)))
    except BodyMissing:
        return False


@pytest.mark.anyio
async def test_asgi_says_that_a_response_was_too_large(
    store: Store, base: Noting, tmp_path: Path
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})

    wrapped = wrap_asgi(app, budget=0, store=store, limits={"response_body": LIMIT})
    accepted = await asgi.call(wrapped)
    done = await asgi.follow(wrapped, accepted)
    assert (done.status, b"response_too_large" in done.content) == (500, True)
    assert b"response_too_large" in (await asgi.call(wrapped, status_path(accepted))).content
    await anyio.to_thread.run_sync(assert_nothing_stays, base, store, tmp_path)


def test_wsgi_says_that_a_response_was_too_large(
    store: Store, base: Noting, tmp_path: Path
) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        while True:
            yield PIECE

    wrapped = wsgi.wrap(app, budget=0, store=store, limits={"response_body": LIMIT})
    accepted = wsgi.call(wrapped)
    done = wsgi.follow(wrapped, accepted)
    assert (done.status, b"response_too_large" in done.content) == (500, True)
    assert b"response_too_large" in wsgi.call(wrapped, status_path(accepted)).content
    assert_nothing_stays(base, store, tmp_path)


def status_path(accepted: Any) -> str:
    return asgi.path_of(accepted) + "/status"
