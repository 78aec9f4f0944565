"""Which operation a request belongs to: its own environ says so, whatever context it begins in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from raincheck import current_operation, long_running
from tests.support.wsgi import SHORT, Call, Untouchable, call, engine_of, environ_of, until, wrap
from tests.support.wsgi import path_of as where


def in_context(work: Callable[[], Call]) -> Call:
    """Do it in a thread of a pool that carries contexts on, as instruments have all pools do."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, work).result()


class Site:
    """An application whose handler has a stranger's request begin in its context."""

    def __init__(self, path: str, **options: Any) -> None:
        self.stranger: Call | None = None
        self.app = wrap(self._handle, **options)
        self._path = path

    def _handle(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == self._path:
            return self._work(start_response)
        until(lambda: current_operation().id is not None)
        current_operation().progress(1)
        self.stranger = in_context(lambda: call(self.app, self._path))
        start_response("200 OK", [])
        return [b"done"]

    def _work(self, start_response: Any) -> Iterator[bytes]:
        current_operation().progress(77)
        start_response("200 OK", [])
        if self._path == "/slow":
            until(lambda: current_operation().id is not None)
        yield str(current_operation().id).encode()

    def first(self) -> str:
        """Return the id of the operation in whose context the stranger came, when it did."""
        accepted = call(self.app, "/first")
        until(lambda: self.stranger is not None)
        return where(accepted).rpartition("/")[2]


def test_a_request_in_the_context_of_another_is_deferred_as_its_own_operation() -> None:
    site = Site("/slow")
    first = site.first()
    assert site.stranger is not None
    assert where(site.stranger).rpartition("/")[2] != first


def test_a_request_that_is_not_deferred_says_nothing_to_the_operation_of_its_context() -> None:
    site = Site("/excluded", exclude=["/excluded"])
    first = site.first()
    assert site.stranger is not None
    assert site.stranger.content == b"None"
    operation = engine_of(site.app).store.get(first)
    assert operation is not None
    assert operation.progress is None or operation.progress.completed == 1


def test_a_middleware_within_another_one_leaves_the_request_to_it() -> None:
    @long_running
    def handler(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"done"]

    inner = wrap(handler, store=Untouchable())
    accepted = call(wrap(lambda environ, start: inner({**environ}, start), budget=60))
    assert accepted.status == 202


@pytest.mark.parametrize("budget", [SHORT, 60])
def test_an_environ_has_no_more_after_a_request_than_before(budget: float) -> None:
    environ = environ_of()
    before = set(environ)

    def handler(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"done"]

    Call(wrap(handler, budget=budget), environ).run()
    assert set(environ) == before
