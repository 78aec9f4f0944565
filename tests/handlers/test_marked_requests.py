"""What is remembered of requests, and what an application may be wrapped in."""

from __future__ import annotations

import gc
from types import FunctionType
from typing import Any

import flask
import pytest

from raincheck import inspection as handlers
from raincheck import long_running
from raincheck.inspection import MarkedRequests, find_directory, marked_requests
from tests.handlers.checks import environ


class Paths:
    """A directory in which every path has a handler of its own, made when it is asked for."""

    def __init__(self, *, remembers: bool) -> None:
        self._remembers = remembers
        self.asked = 0

    def find(self, environ: Any) -> object:
        self.asked += 1

        def handler() -> None: ...

        return long_running(handler) if "marked" in environ["PATH_INFO"] else handler

    def key(self, environ: Any) -> str | None:
        return environ["PATH_INFO"] if self._remembers else None

    def all(self) -> Any:
        raise AssertionError("it was not asked for all")

    middlewares = all


def test_what_was_found_is_remembered() -> None:
    is_marked = MarkedRequests(paths := Paths(remembers=True))
    for _ in range(3):
        assert is_marked(environ("GET", "/marked"))
        assert not is_marked(environ("GET", "/plain"))
    assert paths.asked == 2


def test_a_long_path_is_not_remembered() -> None:
    is_marked = MarkedRequests(paths := Paths(remembers=True))
    for _ in range(3):
        assert is_marked(environ("GET", "/marked" + 300 * "x"))
    assert paths.asked == 3


@pytest.mark.parametrize("remembers", [True, False])
def test_any_number_of_paths_and_handlers_takes_bounded_memory(
    remembers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "REMEMBERED", 10)
    is_marked = MarkedRequests(Paths(remembers=remembers))
    for number in range(100):
        assert is_marked(environ("GET", f"/marked/{number}"))
        assert not is_marked(environ("GET", f"/plain/{number}"))
    functions = (each for each in gc.get_objects() if type(each) is FunctionType)
    kept = [each for each in functions if each.__qualname__ == NAME]
    assert len(kept) <= 2 * 10  # a handler, and what the mark is around


NAME = f"{Paths.find.__qualname__}.<locals>.handler"


class Touchy:
    """A middleware that lets nobody look at it."""

    def __init__(self, app: Any) -> None:
        self.application = app

    @property
    def app(self) -> Any:
        raise RuntimeError("it was looked at")

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.application(environ, start_response)


def around(app: Any) -> Any:
    def middleware(environ: Any, start_response: Any) -> Any:
        return app(environ, start_response)

    return middleware


def test_an_application_is_found_in_middleware_of_all_kinds() -> None:
    app = flask.Flask(__name__, static_folder=None)
    app.add_url_rule("/marked", "marked", long_running(lambda: ""))
    is_marked = marked_requests(around(Touchy(around(app.wsgi_app))))
    assert is_marked is not None
    assert is_marked(environ("GET", "/marked"))
    assert find_directory(around(Touchy(print))) is None


def test_middleware_in_a_circle_is_no_application() -> None:
    first, second = Touchy(None), Touchy(None)
    first.application, second.application = second, first
    assert marked_requests(first) is None
