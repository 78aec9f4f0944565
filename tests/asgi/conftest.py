"""An application for tests of the wire, its handler and its clock."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from raincheck.asgi import RaincheckMiddleware, handler_end
from raincheck.engine.heartbeat import Heartbeat
from tests.support.asgi import engine_of
from tests.support.wire import Clock, Handler, wrap


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_end, "GRACE", 0.03)


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing recovered but by the test."""
    monkeypatch.setattr(Heartbeat, "ensure", lambda *args, **kwargs: None)
    monkeypatch.setattr(Heartbeat, "recover_soon", lambda *args, **kwargs: None)


@pytest.fixture
def handler() -> Handler:
    """Return what answers when it is told to."""
    return Handler()


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
async def app(handler: Handler, clock: Clock) -> AsyncIterator[RaincheckMiddleware]:
    """Wrap the handler so that all its requests are deferred."""
    wrapped = wrap(handler, clock)
    yield wrapped
    engine_of(wrapped).close()
