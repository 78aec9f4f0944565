"""What `@long_running` promises in every WSGI framework, and what raincheck does there besides.

Nothing can stop a thread. A handler ends when it looks whether it is cancelled, or by itself; so
does an async one, which the framework runs in a loop of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
import pytest

from raincheck.wsgi import RaincheckMiddleware
from tests.frameworks.checks import ASK, Promises
from tests.frameworks.session import (
    PATIENCE,
    Refused,
    Session,
    assert_same_response,
    own_fields,
    talking,
    until,
)
from tests.frameworks.work import MADE_BY, TROUBLE, Work
from tests.support.polling import poll
from tests.support.processes import ServerProcess
from tests.support.wsgi_transport import SERVER, WSGITransport

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

OURS = "raincheck-"  # how the names of the threads begin that handlers are given
IN_TIME: dict[str, Any] = {"mode": "auto", "budget": 60}
INLINE: list[dict[str, Any]] = [{"mode": "marked"}, {"mode": "prefer"}, {"budget": None}]


@asynccontextmanager
async def bare(app: WSGIApplication, work: Work) -> AsyncIterator[Session]:
    """Talk to an application as it is, no raincheck around."""
    async with talking(WSGITransport(app), work, app) as session:
        yield session


@asynccontextmanager
async def deferring(app: WSGIApplication, work: Work, **options: Any) -> AsyncIterator[Session]:
    """Talk to an application under raincheck; by default only marked handlers are deferred."""
    chosen: dict[str, Any] = {"store": "memory:", "budget": None, "application": "tests"}
    wrapped = RaincheckMiddleware(app, **(chosen | options))
    async with bare(wrapped, work) as session:
        try:
            yield session
        finally:
            work.release()
            await asyncio.to_thread(wrapped._gateway.running.drain)


class MarkedViews(Promises):
    """All checks for WSGI; a framework's module derives from it.

    The handlers of `/unmarked` and of the paths in `in_thread` are sync. The framework answers
    `Trouble` by itself. What it calls around a handler takes note of that by `Work.step`.

    Attributes:
        around: The steps of a request, the handler's `work` among them.
        trouble: The status of the answer to `Trouble`.
    """

    around: ClassVar[tuple[str, ...]]
    trouble: ClassVar[int]

    def build(self, work: Work) -> WSGIApplication:
        """Return an application whose handlers do `work`."""
        raise NotImplementedError

    def deferring(self, **options: Any) -> AbstractAsyncContextManager[Session]:
        work = Work()
        return deferring(self.build(work), work, **options)

    def bare(self) -> AbstractAsyncContextManager[Session]:
        work = Work()
        return bare(self.build(work), work)

    # --- threads -------------------------------------------------------------------------------

    async def test_a_marked_handler_runs_in_a_thread_of_ours(self, sync_marked: str) -> None:
        async with self.deferring() as session:
            await session.start(sync_marked)
            assert session.work.thread_name.startswith(OURS)

    @pytest.mark.parametrize("options", INLINE, ids=str)
    async def test_an_unmarked_handler_runs_in_the_server_s_own_thread(
        self, options: dict[str, Any]
    ) -> None:
        async with self.deferring(**options) as session:
            session.work.release()
            assert (await session.post("/unmarked")).status_code == 201
            assert session.work.thread_name.startswith(SERVER)

    async def test_in_mode_marked_asking_does_not_move_an_unmarked_handler(self) -> None:
        async with self.deferring(mode="marked") as session:
            session.work.release()
            assert (await session.post("/unmarked", **ASK)).status_code == 201
            assert session.work.thread_name.startswith(SERVER)

    async def test_an_unmarked_handler_that_may_be_deferred_runs_in_a_thread_of_ours(self) -> None:
        async with self.bare() as session:
            session.work.release()
            direct = await session.post("/unmarked")
        async with self.deferring(**IN_TIME) as session:
            session.work.release()
            response = await session.post("/unmarked")
            assert session.work.thread_name.startswith(OURS)
            assert (response.status_code, response.content) == (201, direct.content)
            assert own_fields(response) == own_fields(direct)

    async def test_a_refusal_within_the_budget_stays_what_it_is(self, refused: Refused) -> None:
        path, headers, content, status = refused
        direct = await self.directly("POST", path, content, **headers)
        async with self.deferring(**IN_TIME) as session:
            response = await session.client.post(path, content=content, headers=headers)
            assert response.status_code == status
            assert (own_fields(response), response.content) == (own_fields(direct), direct.content)

    # --- what is around a handler --------------------------------------------------------------

    async def test_what_is_around_a_handler_is_called_as_without_raincheck(
        self, sync_example: str
    ) -> None:
        async with self.bare() as session:
            await self._goes_around(session, sync_example)

    async def test_what_is_around_a_handler_in_time_is_called_in_its_thread(self) -> None:
        async with self.deferring(**IN_TIME) as session:
            await self._goes_around(session, "/unmarked")

    async def test_what_is_around_a_deferred_handler_is_called_in_its_thread(
        self, sync_example: str
    ) -> None:
        async with self.deferring() as session:
            await self._goes_around(session, sync_example)

    async def _goes_around(self, session: Session, path: str) -> None:
        """Have a request handled, and see that its steps are taken in order, in one thread."""
        work = session.work
        work.release()
        response = await session.post(path)
        if response.status_code == 202:
            response = await session.result(response)
        assert response.status_code == 201
        async with asyncio.timeout(PATIENCE):
            await until(lambda: len(work.own_steps) >= len(self.around))
        assert tuple(work.own_steps) == self.around

    # --- errors and cancellation ---------------------------------------------------------------

    async def test_the_answer_to_an_error_comes_back(self, example: str) -> None:
        async with self.bare() as session:
            direct = await session.post(example, TROUBLE)
            assert direct.status_code == self.trouble
        async with self.deferring() as session:
            accepted = await session.start(example, TROUBLE)
            assert_same_response(await session.result(accepted), direct)
            assert await session.state(accepted) == "failed"

    async def test_a_handler_that_never_looks_is_cancelled_only_at_its_end(
        self, example: str
    ) -> None:
        async with self.deferring() as session:
            accepted = await session.start(example)
            await session.cancel(accepted)
            await self._is_cancelled_at_its_end(session, accepted)
            assert not session.work.stopping.is_set()


class ReleasedViews:
    """An application in a server of its own, whose work `POST /release` ends."""

    def __init__(self, app: WSGIApplication, work: Work) -> None:
        self._app = RaincheckMiddleware(app, store="memory:", budget=None)
        self._work = work

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/release":
            return self._app(environ, start_response)
        self._work.release()
        start_response("204 No Content", [])
        return []


GUNICORN = (
    *("-m", "gunicorn", "{module}:serve()", "--bind", "127.0.0.1:{{port}}"),
    *("--worker-class", "gthread", "--threads", "4", "--log-level", "warning"),
)
WAITRESS = ("-m", "waitress", "--listen", "127.0.0.1:{{port}}", "--call", "{module}:serve")


def check_on_a_wsgi_server(command: tuple[str, ...], module: str, paths: tuple[str, ...]) -> None:
    """Have a real server run `serve()` of a module, and defer marked handlers there."""
    with (
        ServerProcess([part.format(module=module) for part in command]) as server,
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
