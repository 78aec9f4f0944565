"""What all tests share."""

from __future__ import annotations

import pytest

from tests.support.asgi import BACKENDS


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run every test that is marked `anyio` on both event loops."""
    return str(request.param)
