"""Lets the shared checks run once for each request that a framework's module names."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.handlers.checks")

from tests.handlers.checks import FindsHandlers  # noqa: E402 - its asserts were to be rewritten


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the checks with the requests of their class."""
    if metafunc.cls is None or not issubclass(metafunc.cls, FindsHandlers):
        return
    if "case" in metafunc.fixturenames:
        cases = metafunc.cls.cases
        metafunc.parametrize("case", cases, ids=[f"{c.method} {c.path}" for c in cases])
