"""Running an operation by its id, as the tasks of any engine do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import raincheck.runners
from raincheck.asgi import RaincheckMiddleware as ASGIMiddleware
from raincheck.engine import queues
from raincheck.errors import ConfigurationError
from raincheck.runners import arun_operation, close_applications, run_operation
from raincheck.stores.memory import MemoryStore
from raincheck.wsgi import RaincheckMiddleware as WSGIMiddleware

OPTIONS: dict[str, Any] = {"application": "by-id", "runners": {"/report": "workers"}}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this process know of no other middleware, and of no application from before."""
    known = type(queues._KNOWN)()
    monkeypatch.setattr(queues, "_KNOWN", known)
    yield
    close_applications()


class Site:
    """A WSGI application, whose handler notes each of its runs."""

    def __init__(self) -> None:
        self.runs: list[bytes] = []
        self.told: list[str] = []
        flask = Flask(__name__)

        @flask.post("/report")
        def report() -> tuple[bytes, int]:
            self.runs.append(request.get_data())
            return request.get_data(), 201

        self.app = WSGIMiddleware(
            flask, store=MemoryStore(), workers={"workers": self.told.append}, **OPTIONS
        )

    def ask(self, method: str = "POST", path: str = "/report", body: bytes = b"") -> httpx.Response:
        with httpx.Client(transport=httpx.WSGITransport(self.app), base_url="http://t") as client:
            return client.request(method, path, content=body)


def test_a_handler_runs_where_its_operation_is_run_and_once() -> None:
    site = Site()
    accepted = site.ask(body=b"body")
    assert (accepted.status_code, site.runs) == (202, [])
    (operation_id,) = site.told
    for _ in range(2):
        run_operation(site.app, operation_id)
    done = site.ask("GET", accepted.headers["location"])
    assert (done.status_code, done.content, site.runs) == (201, b"body", [b"body"])


def test_what_its_store_does_not_have_a_worker_complains_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site()
    with caplog.at_level(logging.WARNING, "raincheck"):
        run_operation(site.app, "0123456789abcdef0123456789abcdef")
    assert "workers need the store of the web processes" in caplog.text
    assert "0123456789abcdef0123456789abcdef" not in caplog.text


def test_an_application_without_the_middleware_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="there is no raincheck around"):
        run_operation(Flask(__name__), "0123456789abcdef")


def test_a_coroutine_keeps_its_loop_and_the_application_has_its_lifespan_once() -> None:
    noted: list[str] = []
    told: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, str]]:
        noted.append("up")
        yield {"greeting": "hello"}
        noted.append("down")

    is_over = threading.Event()

    async def report(asked: Request) -> PlainTextResponse:
        await asyncio.to_thread(is_over.wait)  # set in another loop
        return PlainTextResponse(asked.state.greeting)

    app = ASGIMiddleware(
        Starlette(routes=[Route("/report", report, methods=["POST"])], lifespan=lifespan),
        store=MemoryStore(),
        workers={"workers": told.append},
        **OPTIONS,
    )

    async def ask() -> list[str]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            paths = [(await client.post("/report")).headers["location"] for _ in range(2)]
            running = [asyncio.create_task(arun_operation(app, each)) for each in told]
            assert (await client.get(paths[0])).status_code == 202  # this loop goes on
            is_over.set()
            await asyncio.gather(*running)
            return [(await client.get(path)).text for path in paths]

    assert asyncio.run(ask()) == ["hello"] * 2
    assert noted == ["up"]
    close_applications()
    assert noted == ["up", "down"]


def test_a_process_for_one_operation_runs_no_other_one() -> None:
    site = Site()
    paths = [site.ask().headers["location"] for _ in range(2)]
    for operation_id in site.told:
        run_operation(site.app, operation_id, close=True)
    assert site.runs == [b""]
    assert [site.ask("GET", path).status_code for path in paths] == [201, 202]


def fork(_: Request) -> PlainTextResponse:
    """Do something in a fork, as what computes with `multiprocessing` does."""
    child = multiprocessing.get_context("fork").Process(target=int)
    child.start()
    child.join(20)
    child.kill()
    return PlainTextResponse(str(child.exitcode))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_what_a_handler_has_forked_on_a_worker_ends() -> None:
    told: list[str] = []
    app = ASGIMiddleware(
        Starlette(routes=[Route("/report", fork)]),
        store=MemoryStore(),
        workers={"workers": told.append},
        **OPTIONS,
    )

    async def ask(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            return await client.get(path)

    path = asyncio.run(ask("/report")).headers["location"]
    run_operation(app, told[0])
    assert asyncio.run(ask(path)).text == "0"


def test_what_is_not_there_is_no_part_of_the_package() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        raincheck.runners.nothing  # noqa: B018
