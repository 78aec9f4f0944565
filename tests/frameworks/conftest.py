"""Lets the shared checks run once for each endpoint that a framework's module names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from raincheck.engine import threads

pytest.register_assert_rewrite(
    "tests.frameworks.checks", "tests.frameworks.wsgi_checks", "tests.frameworks.session"
)

from tests.frameworks.checks import Promises  # noqa: E402 - its asserts were to be rewritten


@pytest.fixture(autouse=True, scope="session")
def idle_threads_end_soon() -> Iterator[None]:
    """Keep hundreds of small middlewares from leaving as many threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "IDLE", 0.2)
        yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the checks with what their class says of its application."""
    if metafunc.cls is None or not issubclass(metafunc.cls, Promises):
        return
    on_loop, in_thread = metafunc.cls.on_loop, metafunc.cls.in_thread
    sources: dict[str, Sequence[Any]] = {
        "marked": on_loop + in_thread,
        "async_marked": on_loop,
        "sync_marked": in_thread,
        "sync_example": in_thread[:1],
        "example": on_loop[:1] + in_thread[:1],
        "refused": metafunc.cls.refused,
    }
    for name in sources.keys() & set(metafunc.fixturenames):
        values = sources[name]
        ids = [value if isinstance(value, str) else f"{value[0]}-{value[-1]}" for value in values]
        metafunc.parametrize(name, values, ids=ids)
