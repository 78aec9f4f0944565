"""What must hold for the handlers of every WSGI framework, whatever way they are marked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple
from wsgiref.util import setup_testing_defaults

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raincheck.handler import CURRENT, Marking
from raincheck.inspection import find_directory, marked_requests

WSGIApp = Callable[..., Any]
RAN: list[str] = []  # the handlers that ran


class Case(NamedTuple):
    """A request, whether its handler is marked, and why that is not what happens, if so."""

    method: str
    path: str
    is_marked: bool
    unless: str = ""


def environ(method: str, path: str, **more: Any) -> dict[str, Any]:
    """Return a request as a WSGI server would give it."""
    made = {"REQUEST_METHOD": method, "PATH_INFO": path.encode().decode("latin-1"), **more}
    setup_testing_defaults(made)
    return made


class Watcher:
    """Stands for a request: notices that it is deferred."""

    over = False
    is_rerun = False
    protocol = "wsgi"
    sign = None

    def is_here(self) -> bool:
        return False

    operation_id = None
    is_cancelled = False

    def __init__(self) -> None:
        self.is_deferred = False

    def defer(self, marking: Marking) -> None:
        self.is_deferred = True

    def hand_over(self, marking: Marking, args: Any, kwargs: Any) -> None:
        self.is_deferred = True

    def enter(self) -> None: ...

    def leave(self) -> None: ...

    def report(self, progress: object) -> None: ...


@contextmanager
def watching() -> Iterator[Watcher]:
    token = CURRENT.set(watcher := Watcher())
    try:
        yield watcher
    finally:
        CURRENT.reset(token)


def run(app: WSGIApp, request: dict[str, Any]) -> bool:
    """Run a request and tell whether it was deferred."""
    with watching() as watcher:
        body = app(request, lambda *args: None)
        try:
            list(body)
        finally:
            getattr(body, "close", lambda: None)()
    return watcher.is_deferred


VALUES = st.none() | st.integers() | st.binary(max_size=9) | st.text(max_size=40)
PATHS = st.text(st.characters(max_codepoint=255), max_size=300)
WILD = st.dictionaries(
    st.sampled_from(["REQUEST_METHOD", "PATH_INFO", "HTTP_HOST", "SERVER_NAME", "wsgi.input"]),
    VALUES,
)


class FindsHandlers:
    """The checks; a framework's module derives from it.

    Attributes:
        app: The application.
        cases: Requests to it.
        marked: How many of its endpoints are marked, and how many there are.
    """

    app: ClassVar[WSGIApp]
    cases: ClassVar[tuple[Case, ...]]

    @pytest.fixture(autouse=True)
    def _nothing_ran(self) -> None:
        RAN.clear()

    def test_a_marked_handler_is_found_and_none_is_run(self, case: Case) -> None:
        is_marked = marked_requests(type(self).app)
        assert is_marked is not None
        request = environ(case.method, case.path)
        before = copy.copy(request)
        for _ in range(2):  # the second time from memory
            assert is_marked(request) is case.is_marked
        assert RAN == []
        assert request == before

    def test_what_is_found_is_what_happens(self, case: Case) -> None:
        request = environ(case.method, case.path)
        assert run(type(self).app, request) is (case.is_marked and not case.unless)

    def test_wild_requests_raise_nothing(self) -> None:
        is_marked = marked_requests(type(self).app)
        assert is_marked is not None

        @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
        @given(PATHS, st.sampled_from(["GET", "POST", "BREW", "get", ""]), WILD)
        def check(path: str, method: str, wild: dict[str, Any]) -> None:
            known = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.url_scheme": "http"}
            for request in (wild, {**known, **wild}, known):
                assert is_marked(request) in (True, False)

        check()
        assert RAN == []

    def test_every_endpoint_is_listed_and_none_is_run(self) -> None:
        directory = find_directory(type(self).app)
        assert directory is not None
        assert [endpoint.where for endpoint in directory.all()]
        assert RAN == []
