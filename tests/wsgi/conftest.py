"""What the tests of the WSGI gateway share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raincheck.wsgi import threads


@pytest.fixture(autouse=True, scope="session")
def idle_threads_end_soon() -> Iterator[None]:
    """Keep thousands of small middlewares from leaving as many threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "IDLE", 0.2)
        yield
