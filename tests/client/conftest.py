"""What tests of the client share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.libraries import LIBRARIES, Library
from tests.client.rough_server import RoughServer, rough_server


@pytest.fixture
def rough() -> Iterator[RoughServer]:
    """A server that behaves badly."""
    with rough_server() as server:
        yield server


@pytest.fixture(params=LIBRARIES)
def ask(request: pytest.FixtureRequest) -> Library:
    """Ask through one of the libraries."""
    return LIBRARIES[request.param]
