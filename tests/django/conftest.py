"""What the tests of the Django middleware share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.django.site import WAYS
from tests.django.views import Gate


@pytest.fixture(autouse=True)
def _gate() -> Iterator[None]:
    """Let no test wait for, or be let through by, another one's gate."""
    Gate.reset()
    yield
    Gate.opened.set()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Run a test in every way in which Django runs a middleware."""
    return str(request.param)
