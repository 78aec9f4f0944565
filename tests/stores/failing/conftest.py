"""What the tests of failing stores share: a backend of each kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raincheck.contracts import Store
from tests.stores.failing.backends import KINDS, Backend, backend_of


@pytest.fixture(params=KINDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with backend_of(request.param) as backend:
        yield backend


@pytest.fixture
def redis() -> Iterator[Backend]:
    with backend_of("redis") as backend:
        yield backend


@pytest.fixture
def postgresql() -> Iterator[Backend]:
    with backend_of("postgresql") as backend:
        yield backend


@pytest.fixture
def store(backend: Backend) -> Store:
    """Return a store that has been used: it is connected, and its server prepared."""
    store = backend.open()
    store.get("none")
    return store


@pytest.fixture
def truth(backend: Backend) -> Store:
    """Return a store that sees what there really is, past the network."""
    return backend.open_directly()
