"""On AWS Lambda nothing is deferred: a handler would stand still after its 202."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from raincheck import long_running
from raincheck.asgi import RaincheckMiddleware
from raincheck.stores.memory import MemoryStore
from raincheck.wsgi import RaincheckMiddleware as WSGIMiddleware
from tests.support import asgi, wsgi
from tests.support.handlers import answer

ASYNC = [(b"prefer", b"respond-async")]


@pytest.fixture(params=[False, True])
def is_marked(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(autouse=True)
def _on_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "reports")


async def slow(scope: Any, receive: Any, send: Any) -> None:
    await anyio.sleep(0.05)
    await answer(send)


def quick(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    return [b"done"]


@pytest.mark.anyio
async def test_nothing_is_deferred_in_a_frozen_environment(
    is_marked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = RaincheckMiddleware(long_running(slow) if is_marked else slow, store="memory:", budget=0)
    assert "AWS Lambda" in caplog.text
    for prefer in ([], ASYNC):
        assert (await asgi.call(app, "/", "GET", prefer)).status == 200


def test_nor_under_wsgi_is_anything_in_a_frozen_environment(is_marked: bool) -> None:
    app = WSGIMiddleware(long_running(quick) if is_marked else quick, store="memory:", budget=0)
    for prefer in ([], ASYNC):
        assert wsgi.call(app, "/", "GET", prefer).status == 200


@pytest.mark.anyio
@pytest.mark.usefixtures("by_hand")
async def test_without_a_drain_a_frozen_environment_hands_over_what_it_defers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    options: dict[str, Any] = {"store": store, "application": "shop", "budget": 0}
    there = RaincheckMiddleware(slow, drain=0, **options)
    accepted = await asgi.call(there)
    await asgi.lose(there)
    await asgi.recover(there)
    assert b'"accepted"' in (await asgi.call(there, asgi.path_of(accepted))).content
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME")
    here = RaincheckMiddleware(slow, **options)
    here._gateway.engine.application.come_in_at("")
    await asgi.recover(here)
    assert (await asgi.follow(here, accepted)).content == b"done"
