"""The threads that handlers run in: when they begin, are used again, and end."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from raincheck.engine import threads
from raincheck.engine.threads import Threads
from tests.support.wsgi import Untouchable, call, engine_of, follow, until, wrap
from tests.wsgi.test_promotion import answer


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what sets after how many seconds an idle thread ends."""

    def set_idle(seconds: float) -> None:
        monkeypatch.setattr(threads, "IDLE", seconds)

    return set_idle


def where(environ: Any, start_response: Any) -> Iterable[bytes]:
    return answer(start_response, threading.current_thread().name.encode())


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if re.match(r"raincheck-\d", t.name) and t.is_alive()]


def test_a_thread_is_used_again(idle: Any) -> None:
    idle(30)
    app = wrap(where, budget=60, store=Untouchable())
    names = set()
    for _ in range(20):
        names.add(call(app).content)
        until(lambda: app._gateway.threads._idle)
    assert names == {b"raincheck-1"}


def test_there_are_as_many_threads_as_handlers_that_run_at_once() -> None:
    barrier = threading.Barrier(8)

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        barrier.wait(30)
        return where(environ, start_response)

    wrapped = wrap(app, budget=60)
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: call(wrapped).content, range(8)))
    assert len(names) == 8


def test_a_thread_without_work_ends_and_says_so_in_the_thread(idle: Any) -> None:
    idle(0.01)
    ended: list[str] = []
    pool = Threads(lambda: ended.append(threading.current_thread().name))
    before = set(workers())
    pool.run(lambda: None)
    until(lambda: ended)
    until(lambda: set(workers()) <= before)
    assert ended == ["raincheck-1"]
    assert pool._idle == []
    pool.run(lambda: ended.append("again"))
    until(lambda: "again" in ended)


def test_work_that_comes_when_an_idle_thread_is_about_to_end_is_never_lost(idle: Any) -> None:
    idle(0.0005)
    pool, done, expected = Threads(), list[int](), 0
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        for n in range(4):
            expected += 1
            pool.run(lambda n=n: done.append(n))  # type: ignore[misc]
        time.sleep(0.0005)
    until(lambda: len(done) == expected)


def test_a_thousand_requests_leave_no_thread(idle: Any) -> None:
    idle(0.01)
    before = set(workers())
    app = wrap(where, budget=60, store=Untouchable())
    with ThreadPoolExecutor(8) as pool:
        statuses = set(pool.map(lambda _: call(app).status, range(1000)))
    assert statuses == {200}
    until(lambda: not (set(workers()) - before))


@pytest.mark.parametrize("budget", [0, 60])
def test_where_no_thread_can_be_started_the_request_stays_synchronous(
    budget: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.append(threading.get_ident())
        return answer(start_response, environ["wsgi.input"].read())

    seen: list[int] = []
    wrapped = wrap(app, budget=budget, store=Untouchable())
    monkeypatch.setattr("raincheck.engine.threads.threading.Thread.start", refuse)
    done = call(wrapped, "/", "POST", body=b"body")
    assert (done.status, done.content) == (200, b"body")
    assert seen == [threading.get_ident()]
    assert "can't start new thread" in caplog.text


def test_where_no_thread_is_left_for_the_heartbeat_the_request_stays_synchronous(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start

    def only_handlers(thread: threading.Thread) -> None:
        if "heartbeat" in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", only_handlers)
    wrapped = wrap(where, budget=0)
    assert call(wrapped).status == 200
    assert not engine_of(wrapped).is_busy


def test_a_handler_that_raises_leaves_its_thread_fit_for_the_next(idle: Any) -> None:
    idle(30)

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        if environ["PATH_INFO"] == "/bad":
            raise SystemExit
        yield from where(environ, start_response)

    wrapped = wrap(app, budget=60)
    call(wrapped, "/bad")
    until(lambda: wrapped._gateway.threads._idle)
    assert call(wrapped).content == b"raincheck-1"


def test_threads_are_daemons_and_named() -> None:
    seen: list[threading.Thread] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.append(threading.current_thread())
        return answer(start_response)

    wrapped = wrap(app, budget=0)
    assert follow(wrapped, call(wrapped)).content == b"done"
    assert seen[0].daemon
    assert seen[0].name == "raincheck-1"
