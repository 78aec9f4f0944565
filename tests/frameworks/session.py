"""One application under raincheck in this process, and the client that talks to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp

from raincheck.asgi import RaincheckMiddleware
from tests.frameworks.work import Work

LIMIT = 60.0  # seconds for a whole test; a machine under load is slow
LOOK = 0.005  # seconds between looks
PATIENCE = 30.0  # seconds for what should be there already; a machine under load is slow
LOOKS = 30  # that something must outlast to count as lasting


class Session:
    """Starts operations and looks after them."""

    def __init__(self, client: httpx.AsyncClient, work: Work, app: Any) -> None:
        self.client = client
        self.work = work
        self._app = app

    @property
    def engine(self) -> Any:
        """The engine of the middleware, whose heartbeat need not be waited for."""
        return self._app._gateway.engine

    async def post(self, path: str, order: str = "tea", **headers: str) -> httpx.Response:
        """Order something."""
        fields = {"x-order": order, **headers}  # a sync handler of Starlette can't read the body
        return await self.client.post(path, json={"order": order}, headers=fields)

    async def start(self, path: str, order: str = "tea", **headers: str) -> httpx.Response:
        """Order something that is deferred, and wait until its handler works."""
        response = await self.post(path, order, **headers)
        assert response.status_code == 202, response.text
        await until(self.work.started.is_set)
        return response

    async def status(self, accepted: httpx.Response) -> dict[str, Any]:
        """Read M."""
        response = await self.client.get(accepted.headers["operation-location"])
        assert response.status_code == 200
        document: dict[str, Any] = response.json()
        return document

    async def state(self, accepted: httpx.Response) -> str:
        """Read M's state."""
        return str((await self.status(accepted))["status"])

    async def progress(self, accepted: httpx.Response) -> dict[str, Any]:
        """Have the heartbeat beat, and wait until M tells of progress."""
        self.engine.beat()
        async with asyncio.timeout(PATIENCE):
            while "progress" not in (document := await self.status(accepted)):  # noqa: ASYNC110
                await asyncio.sleep(LOOK)
        progress: dict[str, Any] = document["progress"]
        return progress

    async def result(self, accepted: httpx.Response) -> httpx.Response:
        """Poll R until it is no 202 any more."""
        url = accepted.headers["location"]
        while (response := await self.client.get(url)).status_code == 202:  # noqa: ASYNC110
            await asyncio.sleep(LOOK)
        return response

    async def cancel(self, accepted: httpx.Response) -> None:
        """Delete R of an operation that runs."""
        response = await self.client.delete(accepted.headers["location"])
        assert response.status_code == 202
        assert response.json()["status"] == "cancelling"

    async def lasts(self, accepted: httpx.Response, state: str) -> None:
        """Look at M for longer than raincheck gives a handler before it insists."""
        for _ in range(LOOKS):
            assert await self.state(accepted) == state
            await asyncio.sleep(LOOK)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in a thread; the session's limit ends it."""
    while not condition():  # noqa: ASYNC110 - a thread sets no asyncio.Event
        await asyncio.sleep(LOOK)


@asynccontextmanager
async def talking(
    transport: httpx.AsyncBaseTransport, work: Work, app: Any
) -> AsyncIterator[Session]:
    """Talk to an application through what calls it."""
    async with (
        asyncio.timeout(LIMIT),
        httpx.AsyncClient(transport=transport, base_url="http://app.test") as client,
    ):
        yield Session(client, work, app)


@asynccontextmanager
async def bare(app: ASGIApp, work: Work) -> AsyncIterator[Session]:
    """Talk to an application as it is, no raincheck around."""
    async with talking(httpx.ASGITransport(app=app), work, app) as session:
        yield session


@asynccontextmanager
async def deferring(app: ASGIApp, work: Work, **options: Any) -> AsyncIterator[Session]:
    """Talk to an application under raincheck; by default only marked handlers are deferred."""
    chosen: dict[str, Any] = {"store": "memory:", "budget": None, "application": "tests"}
    wrapped = RaincheckMiddleware(app, **(chosen | options))
    async with bare(wrapped, work) as session:
        try:
            yield session
        finally:
            work.release()
            await wrapped._gateway.running.drain()


def own_fields(response: httpx.Response) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a response but for the date."""
    return [(name, value) for name, value in response.headers.raw if name != b"date"]


def assert_same_response(replayed: httpx.Response, direct: httpx.Response) -> None:
    """Compare what R answers with what the application does when nothing is in between."""
    fields = own_fields(direct)
    assert replayed.status_code == direct.status_code
    assert replayed.content == direct.content
    assert own_fields(replayed)[: len(fields)] == fields
    added = {name for name, _ in own_fields(replayed)[len(fields) :]}
    assert added <= {b"operation-status", b"cache-control", b"content-length"}


def document(**members: Any) -> bytes:
    """Write JSON."""
    return json.dumps(members).encode()


Paths = tuple[str, ...]
Refused = tuple[str, Mapping[str, str], bytes, int]  # path, header fields, content; status
