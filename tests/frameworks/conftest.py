"""Lets the shared checks run once for each endpoint that a framework's module names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.frameworks.checks", "tests.frameworks.session")

from tests.frameworks.checks import MarkedHandlers  # noqa: E402 - its asserts were to be rewritten


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the checks with what their class says of its application."""
    if metafunc.cls is None or not issubclass(metafunc.cls, MarkedHandlers):
        return
    on_loop, in_thread = metafunc.cls.on_loop, metafunc.cls.in_thread
    sources: dict[str, Sequence[Any]] = {
        "marked": on_loop + in_thread,
        "async_marked": on_loop,
        "sync_marked": in_thread,
        "example": on_loop[:1] + in_thread[:1],
        "refused": metafunc.cls.refused,
    }
    for name in sources.keys() & set(metafunc.fixturenames):
        values = sources[name]
        ids = [value if isinstance(value, str) else f"{value[0]}-{value[-1]}" for value in values]
        metafunc.parametrize(name, values, ids=ids)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here: the same checks for each framework take their time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.framework)
