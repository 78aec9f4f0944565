"""A request that is not deferred: nothing is touched, copied or added."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.support.wsgi import SHORT, Untouchable, call, environ_of, wrap


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ({"exclude": ["/x"]}, "GET"),
        ({"include": ["/y"]}, "POST"),
        ({"mode": "prefer"}, "GET"),
        ({}, "HEAD"),
        ({}, "OPTIONS"),
        ({"status_url": lambda environ, id: f"/ops/{id}", "mode": "prefer"}, "GET"),
    ],
)
def test_a_request_that_cannot_be_deferred_is_the_applications_own(
    options: dict[str, Any], method: str
) -> None:
    body, environ, seen = iter([b"x"]), environ_of("/x", method), list[Any]()
    names = set(environ)

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.extend((environ, start_response, threading.get_ident()))
        return body

    def start_response(*_: Any) -> Any:
        raise AssertionError("called by raincheck")

    wrapped = wrap(app, **({"store": Untouchable(), "budget": 0} | options))
    assert wrapped(environ, start_response) is body
    assert seen == [environ, start_response, threading.get_ident()]
    assert seen[0] is environ
    assert set(environ) == names


@pytest.mark.parametrize("options", [{}, {"mode": "marked"}, {"budget": None}])
def test_a_fast_request_touches_no_store_and_gets_no_header(options: dict[str, Any]) -> None:
    headers, body = [("X-A", "1")], [b"x" * 1000]

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return body

    logging.getLogger("raincheck").setLevel(logging.ERROR)  # the framework is not known
    try:
        done = call(wrap(app, **({"store": Untouchable(), "budget": 60} | options)))
    finally:
        logging.getLogger("raincheck").setLevel(logging.NOTSET)
    assert done.error is None
    assert done.raw_headers is headers
    assert done.chunks[0] is body[0]
    assert done.result is body


def test_a_started_response_streams_through_and_is_never_promoted() -> None:
    taken = [threading.Event() for _ in range(4)]

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for event in taken:
            yield b"x"
            assert event.wait(30)
            threading.Event().wait(SHORT)

    wrapped, got = wrap(app, store=Untouchable()), list[bytes]()
    for event, chunk in zip(taken, wrapped(environ_of(), lambda *_: print), strict=True):
        got.append(chunk)
        event.set()  # the next one comes only after this one has reached the server
    assert got == [b"x"] * 4


def test_a_middleware_that_was_only_made_has_opened_nothing(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("RAINCHECK_STORE", raising=False)
    threads, files = threading.active_count(), _open_files()
    wrapped = wrap(lambda environ, start_response: [], store=None, exclude=["/**"])
    call(wrapped)
    assert threading.active_count() <= threads
    assert _open_files() <= files
    assert list(tmp_path.iterdir()) == []


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except FileNotFoundError:
        pytest.skip("only Linux lists descriptors")
