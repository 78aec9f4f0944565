"""What requests leave behind, at their best and where something breaks: nothing."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from raincheck.engine import heartbeat
from raincheck.stores.memory import MemoryStore
from raincheck.wsgi.exchange import Exchange
from tests.support.memory import size_of_what_is_not_learned
from tests.support.wsgi import (
    Call,
    Untouchable,
    call,
    engine_of,
    environ_of,
    follow,
    until,
    until_free,
    wrap,
)
from tests.wsgi.test_promotion import answer

pytestmark = pytest.mark.load
REQUESTS = 300


class Forgetful(MemoryStore):
    """Keeps nothing that is over, so that only the gateway's own memory is seen."""

    def swap(self, old: Any, new: Any, **drops: bool) -> bool:
        swapped = super().swap(old, new, **drops)
        if new.is_terminal:
            del self._operations[new.id], self._shelves[new.id]
            self._expiring[False].clear()
        return swapped


@pytest.fixture(scope="module")
def collected() -> None:
    """Begin without the garbage of others."""
    gc.collect()


@pytest.fixture
def without_collector(collected: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let only reference counts free memory, and pytest keep no log record with a traceback."""
    monkeypatch.setattr(logging.getLogger("raincheck"), "disabled", True)
    gc.disable()
    yield
    gc.enable()


class Thing:
    """What a test follows to its end."""


class Error(Exception):
    """An exception that can be followed."""


def quick(environ: Any, start_response: Any) -> Iterable[bytes]:
    return answer(start_response)


def streaming(environ: Any, start_response: Any) -> Iterator[bytes]:
    yield from answer(start_response)
    yield b"more"


def raising(environ: Any, start_response: Any) -> Iterable[bytes]:
    raise Error


def cut(environ: Any, start_response: Any) -> Iterator[bytes]:
    yield from answer(start_response)
    raise Error


def replacing(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("500 No", [])
    try:
        raise Error
    except Error:
        start_response("200 OK", [], sys.exc_info())
    return [b"done"]


def exchanges() -> int:
    # Not isinstance: it asks objects for their class, and lazy ones do something then.
    return sum(type(thing) is Exchange for thing in gc.get_objects())


def until_idle(app: Any) -> None:
    until(lambda: not engine_of(app).is_busy and not app._gateway.running)
    until_free(app)


class Server(Call):
    """A server that keeps no exception, whose traceback would keep everything."""

    def run(self) -> Call:
        try:
            self.serve()
        except Error:
            self.result = None
        return self


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize(
    ("budget", "headers"), [(0, []), (60, []), (60, [(b"idempotency-key", b"one")])]
)
@pytest.mark.parametrize("takes", [None, 1])
@pytest.mark.parametrize("app", [quick, streaming, raising, cut, replacing])
def test_a_request_leaves_no_cycle(
    app: Any, takes: int | None, budget: float, headers: list[tuple[bytes, bytes]]
) -> None:
    wrapped = wrap(app, budget=budget, store=Forgetful())
    thing, before = Thing(), exchanges()
    followed = weakref.ref(thing)
    Server(wrapped, environ_of("/", "POST", headers, thing=thing), takes=takes).run()
    del thing
    until_idle(wrapped)
    until(lambda: followed() is None)
    assert exchanges() <= before


@pytest.mark.usefixtures("without_collector")
def test_an_error_that_no_server_waits_for_is_freed() -> None:
    """The client leaves between a chunk and the exception that follows it."""
    wrapped = wrap(cut, budget=60, store=Untouchable())
    before = exchanges()
    body: Any = wrapped(environ_of(), lambda *_: print)
    until_idle(wrapped)  # the exception is there, and nobody has asked for it
    body.close()
    del body
    until(lambda: exchanges() <= before)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [0, 60])
def test_memory_does_not_grow(budget: float) -> None:
    wrapped = wrap(quick, budget=budget, store=Forgetful())

    def repeat() -> int:
        for _ in range(REQUESTS):
            call(wrapped)
            until(lambda: not engine_of(wrapped).is_busy)
        until_idle(wrapped)
        gc.collect()
        return size_of_what_is_not_learned() if tracemalloc.is_tracing() else 0

    repeat()
    tracemalloc.start()
    sizes = [repeat() for _ in range(4)]
    tracemalloc.stop()
    # A leak grows each time; a thread that is begun only once.
    assert min(after - before for before, after in pairwise(sizes)) < 100 * REQUESTS


def test_a_middleware_that_is_dropped_takes_its_threads_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    monkeypatch.setattr(heartbeat, "RECOVER", 0.01)
    started, start = list[threading.Thread](), threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        started.append(thread)
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", noted)
        wrapped = wrap(quick, budget=0)
        assert follow(wrapped, call(wrapped)).content == b"done"
        until_idle(wrapped)
    engine = weakref.ref(engine_of(wrapped))
    del wrapped

    def is_gone() -> bool:
        gc.collect()  # again: a thread may have held on to it while it was collected
        return engine() is None and not any(thread.is_alive() for thread in started)

    until(is_gone)
    names = {thread.name for thread in started if "store" not in thread.name}
    assert names == {"raincheck-1", "raincheck-heartbeat"}


@pytest.mark.parametrize("budget", [60, 0])
def test_a_large_upload_that_a_framework_keeps_in_a_cycle_leaves_no_file_open(
    budget: float,
) -> None:
    class Closing(list[bytes]):
        def close(self) -> None: ...

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        environ["request"] = [environ]  # as werkzeug's
        answer(start_response)
        return Closing([b"done"])

    wrapped = wrap(app, budget=budget)
    answered = call(wrapped, "/", "POST", body=b"x" * 2_000_000)
    assert (follow(wrapped, answered) if budget == 0 else answered).content == b"done"
    until_idle(wrapped)
    assert set(engine_of(wrapped).admission.spooled._bytes.values()) == {0}


def test_a_large_upload_leaves_no_file_open() -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        streams.append(environ["wsgi.input"])
        return answer(start_response)

    streams: list[Any] = []
    wrapped = wrap(app, budget=60)
    call(wrapped, "/", "POST", body=b"x" * 2_000_000)
    until_idle(wrapped)
    assert streams[0].read() == b"x" * 2_000_000  # what the handler has not read is still there
    streams.clear()
    assert set(engine_of(wrapped).admission.spooled._bytes.values()) == {0}  # there was a file
