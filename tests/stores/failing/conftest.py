"""What the tests of failing stores share: a backend of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from raincheck.contracts import Store
from tests.stores.failing.backends import KINDS, Backend, backend_of
from tests.stores.failing.sites import SEEN, SERVERS, USUAL, Site


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


@pytest.fixture(params=SEEN)
def command(request: pytest.FixtureRequest, backend: Backend) -> str:
    return SERVERS[USUAL[backend.kind] if request.param == "usual" else request.param]


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def site(command: str, backend: Backend, gates: Path) -> Iterator[Site]:
    with Site(command, backend, gates) as site:
        yield site


@pytest.fixture
def pair(backend: Backend, gates: Path) -> Iterator[tuple[Site, Site]]:
    """Two processes, one of each server, that share the store."""
    with two_sites(backend, gates) as pair:
        yield pair


@pytest.fixture(params=[False, True], ids=["uvicorn first", "gunicorn first"])
def stand_ins(
    backend: Backend, gates: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Site, Site]]:
    """Two processes that may run each other's requests again."""
    again = {"max_attempts": 2, "retry": {"/**": True}, "application": "both"}
    with two_sites(backend, gates, **again) as (one, two):
        yield (two, one) if request.param else (one, two)


@contextmanager
def two_sites(backend: Backend, gates: Path, **options: Any) -> Iterator[tuple[Site, Site]]:
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(Site(command, backend, gates, **options))
            for command in SERVERS.values()
        )
        yield one, two
