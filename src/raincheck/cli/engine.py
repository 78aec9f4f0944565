"""The engine as an operator needs it: by its rules, and in no application's name."""

from __future__ import annotations

from raincheck.config.options import Settings
from raincheck.engine.engine import Engine
from raincheck.operations.store import Store


def engine_on(store: Store) -> Engine:
    """Return an engine that runs nothing and takes up nothing; who opened the store closes it."""
    return Engine(Settings(application="raincheck command line"), store)
