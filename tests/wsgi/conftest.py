"""What the tests of the WSGI gateway share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from raincheck.engine import threads
from raincheck.engine.heartbeat import Heartbeat
from tests.support.wire import Clock

Said = Callable[[], list[logging.LogRecord]]


@pytest.fixture(autouse=True, scope="session")
def idle_threads_end_soon() -> Iterator[None]:
    """Keep thousands of small middlewares from leaving as many threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "IDLE", 0.2)
        yield


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing beat or recover but by the test."""
    monkeypatch.setattr(Heartbeat, "ensure", lambda *args, **kwargs: None)
    monkeypatch.setattr(Heartbeat, "recover_soon", lambda *args, **kwargs: None)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """Return what tells what was logged, but not by threads that tests before have left."""
    others = {t.ident for t in threading.enumerate() if t is not threading.main_thread()}
    return lambda: [record for record in caplog.records if record.thread not in others]


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()
