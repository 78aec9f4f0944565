"""Operations that nobody asks for any more, by the ASGI gateway."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from raincheck.config import options
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import PATIENT, call, engine_of, follow, path_of
from tests.support.handlers import slow, wrap
from tests.support.wire import Clock, assert_problem

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "SHORTEST_PATIENCE", 0)


async def beat(app: Any) -> None:
    await anyio.to_thread.run_sync(engine_of(app).beat)
    await anyio.sleep(0.02)


async def test_an_operation_that_nobody_polls_is_cancelled() -> None:
    stopped = anyio.Event()

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.set()

    app = wrap(handler, budget=0, abandon_after=0.2)
    accepted = await call(app)
    with anyio.fail_after(PATIENT):
        while not stopped.is_set():
            await beat(app)
    assert_problem(await follow(app, accepted), 410, "canceled")


async def test_one_that_is_polled_is_not(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    for module in ("running", "leases"):
        monkeypatch.setattr(f"raincheck.engine.{module}.time", SimpleNamespace(monotonic=clock))
    go = anyio.Event()
    app = wrap(slow(go), budget=0, abandon_after=0.4, store=MemoryStore(clock=clock))
    accepted = await call(app)
    for _ in range(12):
        clock.now += 0.1
        assert (await call(app, path_of(accepted))).status == 202
        await beat(app)
    go.set()
    assert (await follow(app, accepted)).content == b"done"
