"""What `@long_running` promises, checked in the same way in every framework."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from raincheck import OperationCancelled
from raincheck.asgi import RaincheckMiddleware, handler_end
from tests.frameworks.session import (
    Paths,
    Refused,
    Session,
    assert_same_response,
    bare,
    deferring,
    own_fields,
    until,
)
from tests.frameworks.work import HEEDFUL, MADE_BY, PROGRESS, Work
from tests.support.polling import poll
from tests.support.processes import ServerProcess

ASK = {"prefer": "respond-async"}


@pytest.mark.asyncio
class Promises:
    """The checks that ASGI and WSGI have in common.

    The application answers `POST` with `{"order": …}` to every marked path and to `/unmarked`
    with what the work made, 201 and an `x-made-by` field; and `GET /plain`.

    Attributes:
        on_loop: Paths of marked async handlers.
        in_thread: Paths of marked sync handlers.
        refused: Requests that the framework refuses before a marked handler.
    """

    on_loop: ClassVar[Paths]
    in_thread: ClassVar[Paths]
    refused: ClassVar[tuple[Refused, ...]]

    def deferring(self, **options: Any) -> AbstractAsyncContextManager[Session]:
        """Return a session with the application under raincheck."""
        raise NotImplementedError

    def bare(self) -> AbstractAsyncContextManager[Session]:
        """Return a session with the application as it is."""
        raise NotImplementedError

    async def directly(self, method: str, path: str, content: bytes = b"", **headers: str) -> Any:
        async with self.bare() as session:
            session.work.release()
            return await session.client.request(method, path, content=content, headers=headers)

    async def test_a_marked_handler_is_answered_202_while_it_runs(self, marked: str) -> None:
        async with self.deferring() as session:
            accepted = await session.start(marked)
            assert not session.work.ended.is_set()
            running = await session.client.get(accepted.headers["location"])
            assert running.status_code == 202
            assert await session.state(accepted) == "running"

    async def test_the_exact_response_of_a_marked_handler_comes_back(self, marked: str) -> None:
        async with self.bare() as session:
            session.work.release()
            direct = await session.post(marked)
            assert (direct.status_code, direct.headers[MADE_BY]) == (201, "hand")
        async with self.deferring() as session:
            accepted = await session.start(marked)
            session.work.release()
            assert_same_response(await session.result(accepted), direct)
            assert await session.state(accepted) == "succeeded"

    async def test_a_marked_handler_that_is_fast_is_deferred_too(self, marked: str) -> None:
        async with self.deferring() as session:
            session.work.release()
            accepted = await session.start(marked)
            assert (await session.result(accepted)).status_code == 201

    async def test_a_refusal_before_the_handler_stays_what_it_is(self, refused: Refused) -> None:
        path, headers, content, status = refused
        direct = await self.directly("POST", path, content, **headers)
        async with self.deferring() as session:
            response = await session.client.post(path, content=content, headers=headers)
            assert response.status_code == status
            assert (own_fields(response), response.content) == (own_fields(direct), direct.content)
            assert not session.work.started.is_set()

    async def test_a_request_that_is_not_refused_is_deferred(self) -> None:
        async with self.deferring() as session:
            accepted = await session.start("/guarded", authorization="good")
            session.work.release()
            assert (await session.result(accepted)).status_code == 201

    async def test_the_response_of_an_unmarked_handler_is_untouched(self) -> None:
        direct = await self.directly("GET", "/plain")
        async with self.deferring() as session:
            response = await session.client.get("/plain")
            assert response.status_code == direct.status_code == 200
            assert (own_fields(response), response.content) == (own_fields(direct), direct.content)

    async def test_an_unmarked_handler_is_waited_for(self) -> None:
        async with self.deferring() as session:
            await self._is_waited_for(session, "/unmarked")

    async def _is_waited_for(self, session: Session, path: str, **headers: str) -> None:
        request = asyncio.create_task(session.post(path, **headers))
        await until(lambda: session.work.started.is_set() or request.done())
        assert session.work.operation.id is None
        assert not request.done()
        session.work.release()
        response = await request
        assert response.status_code == 201
        assert "location" not in response.headers

    # --- what a handler says and hears ---------------------------------------------------------

    async def test_progress_is_seen_at_the_status_url(self, marked: str) -> None:
        async with self.deferring() as session:
            accepted = await session.start(marked)
            assert await session.progress(accepted) == PROGRESS

    async def test_a_handler_knows_its_operation(self, marked: str) -> None:
        async with self.deferring() as session:
            accepted = await session.start(marked)
            assert session.work.operation.id == accepted.json()["id"]
            assert not session.work.operation.cancelled

    async def test_a_handler_that_looks_sees_that_it_is_cancelled(self, marked: str) -> None:
        async with self.deferring() as session:
            accepted = await session.start(marked)
            await session.cancel(accepted)
            session.work.release()
            await until(session.work.ended.is_set)
            assert session.work.saw_cancelled

    async def test_a_handler_that_asks_is_stopped(self, marked: str) -> None:
        async with self.deferring() as session:
            accepted = await session.start(marked, HEEDFUL)
            await session.cancel(accepted)
            assert (await session.result(accepted)).status_code == 410
            assert isinstance(session.work.error, OperationCancelled)
            assert await session.state(accepted) == "canceled"

    async def _is_cancelled_at_its_end(self, session: Session, accepted: httpx.Response) -> None:
        await session.lasts(accepted, "cancelling")
        assert not session.work.ended.is_set()
        session.work.release()
        assert (await session.result(accepted)).status_code == 410
        assert session.work.ended.is_set()
        assert await session.state(accepted) == "canceled"

    # --- modes, and none -----------------------------------------------------------------------

    async def test_in_mode_marked_no_other_handler_is_deferred(self) -> None:
        async with self.deferring(mode="marked", budget=0) as session:
            await self._is_waited_for(session, "/unmarked", **ASK)

    async def test_in_mode_marked_a_marked_handler_is_deferred(self, example: str) -> None:
        async with self.deferring(mode="marked") as session:
            await session.start(example)

    async def test_in_mode_prefer_nobody_gets_a_202_unasked(self, example: str) -> None:
        async with self.deferring(mode="prefer", budget=0) as session:
            await self._is_waited_for(session, example)

    async def test_in_mode_prefer_who_asks_gets_a_202(self, example: str) -> None:
        async with self.deferring(mode="prefer") as session:
            accepted = await session.start(example, **ASK)
            assert accepted.headers["preference-applied"] == "respond-async"

    async def test_in_mode_auto_an_unmarked_handler_is_deferred_after_its_budget(self) -> None:
        async with self.deferring(mode="auto", budget=0.01) as session:
            accepted = await session.start("/unmarked")
            session.work.release()
            assert (await session.result(accepted)).status_code == 201

    async def test_in_mode_auto_a_marked_handler_does_not_wait_for_its_budget(
        self, example: str
    ) -> None:
        async with self.deferring(mode="auto", budget=3600) as session:
            await session.start(example)

    async def test_without_raincheck_a_mark_does_nothing(self, example: str) -> None:
        async with self.bare() as session:
            await self._is_waited_for(session, example)
            assert session.work.saw_cancelled is False


class MarkedHandlers(Promises):
    """All checks for ASGI; a framework's module derives from it."""

    def build(self, work: Work) -> ASGIApp:
        """Return an application whose handlers do `work`."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(handler_end, "GRACE", 0.03)

    def deferring(self, **options: Any) -> AbstractAsyncContextManager[Session]:
        work = Work()
        return deferring(self.build(work), work, **options)

    def bare(self) -> AbstractAsyncContextManager[Session]:
        work = Work()
        return bare(self.build(work), work)

    async def test_a_marked_async_handler_stays_on_the_loop(self, async_marked: str) -> None:
        async with self.deferring() as session:
            await session.start(async_marked)
            assert session.work.thread == threading.get_ident()

    async def test_a_marked_sync_handler_stays_off_the_loop(self, sync_marked: str) -> None:
        async with self.deferring() as session:
            await session.start(sync_marked)
            assert session.work.thread != threading.get_ident()

    async def test_an_async_handler_is_stopped_and_cancelled_only_then(
        self, async_marked: str
    ) -> None:
        async with self.deferring() as session:
            accepted = await session.start(async_marked)
            await session.cancel(accepted)
            await until(session.work.stopping.is_set)
            await self._is_cancelled_at_its_end(session, accepted)

    async def test_a_sync_handler_that_never_looks_is_cancelled_only_at_its_end(
        self, sync_marked: str
    ) -> None:
        async with self.deferring() as session:
            accepted = await session.start(sync_marked)
            await session.cancel(accepted)
            await self._is_cancelled_at_its_end(session, accepted)


class Released:
    """An application in a server of its own, whose work `POST /release` ends."""

    def __init__(self, app: ASGIApp, work: Work) -> None:
        self._app = RaincheckMiddleware(app, store="memory:", budget=None)
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/release":
            await self._app(scope, receive, send)
            return
        self._work.release()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def check_on_a_server(module: str, paths: tuple[str, ...]) -> None:
    """Have a real server run `serve()` of a module, and defer marked handlers there."""
    command = ["-m", "uvicorn", "--factory", f"{module}:serve", "--port", "{port}"]
    with (
        ServerProcess([*command, "--log-level", "warning"]) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        accepted = [client.post(path, json={"order": "tea"}) for path in paths]
        assert [response.status_code for response in accepted] == [202] * len(paths)
        urls = [response.headers["location"] for response in accepted]
        assert [client.get(url).status_code for url in urls] == [202] * len(urls)
        assert client.get("/plain").status_code == 200
        assert client.post("/release").status_code == 204
        for response in (poll(client, url) for url in urls):
            assert (response.status_code, response.headers[MADE_BY]) == (201, "hand")
            assert "made of tea" in response.text
