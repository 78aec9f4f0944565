"""What the tests of leaving share."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what any logger logs at WARNING or above, also one that doesn't propagate."""
    found: list[str] = []
    handle = logging.Logger.callHandlers

    def record(logger: logging.Logger, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            found.append(f"{record.name}: {record.getMessage()}")
        handle(logger, record)

    monkeypatch.setattr(logging.Logger, "callHandlers", record)
    return found
