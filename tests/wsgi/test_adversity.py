"""Races, failing stores, servers that stop, and applications that do what they should not."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from raincheck import StoreUnavailable, long_running
from raincheck.contracts import Filter
from raincheck.handler import CURRENT, UNMARKED
from raincheck.stores.memory import MemoryStore
from raincheck.wsgi.race import Race
from tests.support.wsgi import (
    SHORT,
    Call,
    Untouchable,
    call,
    engine_of,
    environ_of,
    follow,
    path_of,
    until,
    wrap,
)
from tests.wsgi.test_promotion import Full, answer, together


@long_running
def mark() -> None:
    """Mark the request, from wherever it is called."""


class Gate(MemoryStore):
    """Records an operation only when told to."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.asked, self.may = threading.Event(), threading.Event()
        self._error = error

    def create(self, *arguments: Any) -> Any:
        self.asked.set()
        assert self.may.wait(30)
        if self._error is not None:
            raise self._error
        return super().create(*arguments)


class Server:
    """A server's thread with one call in it."""

    def __init__(self, app: Any, **more: Any) -> None:
        self.call = Call(app, environ_of(), **more)
        self._thread = threading.Thread(target=self.call.run)
        self._thread.start()

    def answer(self) -> Call:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.call


def states(app: Any) -> list[str]:
    records, _ = engine_of(app).store.find(Filter())
    return [record.state.value for record in records]


def until_idle(app: Any) -> None:
    until(lambda: not engine_of(app).is_busy and not app._gateway.running)


# --- the moment of the decision ----------------------------------------------------------------


@pytest.mark.parametrize("budget", [SHORT, None, 0])
def test_a_mark_after_a_promotion_that_failed_does_not_hang(budget: float | None) -> None:
    failed = threading.Event()

    class Telling(Full):
        def create(self, *_: Any) -> Any:
            failed.set()
            super().create()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        mark()
        assert failed.wait(30)
        mark()
        until(lambda: not CURRENT.get().deferral.is_held)  # type: ignore[union-attr]
        mark()
        return answer(start_response)

    assert call(wrap(app, store=Telling(), budget=budget)).content == b"done"


@pytest.mark.parametrize("end", ["answers", "streams", "raises", "marks"])
@pytest.mark.parametrize("error", [None, StoreUnavailable("late"), OSError("raw")])
def test_an_application_that_ends_while_its_operation_is_recorded_loses_nothing(
    end: str, error: Exception | None
) -> None:
    store, ended = Gate(error), threading.Event()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        assert store.asked.wait(30)
        ended.set()
        if end == "raises":
            raise ValueError("mine")
        if end == "marks":
            mark()
        yield from answer(start_response)

    def listed(environ: Any, start_response: Any) -> Iterable[bytes]:
        return list(app(environ, start_response))

    wrapped = wrap(app if end == "streams" else listed, store=store)
    server = Server(wrapped)
    assert ended.wait(30)
    assert server.call.status_line == ""
    store.may.set()
    done = server.answer()
    if error is None:
        assert follow(wrapped, done).status == (500 if end == "raises" else 200)
    else:
        assert (repr(done.error), done.content) == (
            ("ValueError('mine')", b"") if end == "raises" else ("None", b"done")
        )
    until_idle(wrapped)


def test_in_the_very_moment_of_the_budget_there_is_one_response_and_no_more() -> None:
    wrapped: Any = None

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        CURRENT.get()._wait(CURRENT.get()._is_decided, SHORT)  # type: ignore[union-attr]
        if environ["QUERY_STRING"] == "mark":
            mark()
        if environ["QUERY_STRING"] == "raise":
            raise ValueError("mine")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([b"do", b"ne"])

    wrapped, found = wrap(app), list[Call]()

    def some(query: str) -> None:
        for _ in range(10):
            found.append(call(wrapped, QUERY_STRING=query))

    for query in ("", "mark", "raise"):
        together(5, lambda query=query: some(query))  # type: ignore[misc]
    assert len(found) == 150
    for answered in found:
        if answered.error is None and answered.status == 202:
            answered = follow(wrapped, answered)
            assert answered.content == b"done" or answered.status == 500
        else:
            assert answered.content == b"done" or repr(answered.error) == "ValueError('mine')"
    until_idle(wrapped)


def test_a_slow_handler_that_marks_in_a_thread_of_its_own_is_deferred_by_it() -> None:
    release = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        request: Any = CURRENT.get()
        threading.Thread(target=request.defer, args=[UNMARKED]).start()
        assert release.wait(30)
        return answer(start_response)

    wrapped = wrap(app, budget=60)
    accepted = call(wrapped)
    release.set()
    assert follow(wrapped, accepted).content == b"done"


def test_what_a_finished_request_left_behind_defers_nothing() -> None:
    left: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        left.append(CURRENT.get())
        return answer(start_response)

    wrapped = wrap(app, budget=60, store=Untouchable())
    assert call(wrapped).content == b"done"
    left[0].defer(UNMARKED)
    assert not left[0].deferral.is_held


# --- servers that stop -------------------------------------------------------------------------


class Stop(BaseException):
    """What a server raises in its thread to have it back: a gevent.Timeout, a SystemExit."""


def endless(ended: threading.Event) -> Any:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        if environ["QUERY_STRING"] == "mark":
            mark()
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.set()

    return app


@pytest.mark.parametrize("query", ["", "mark"])
def test_a_server_that_stops_waiting_for_the_decision_stops_the_handler(
    monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    wait = Race._wait

    def interrupted(race: Race, is_enough: Any, seconds: float | None) -> bool:
        wait(race, is_enough, seconds)
        raise Stop

    ended = threading.Event()
    app = wrap(endless(ended), budget=60, store=Untouchable())
    monkeypatch.setattr(Race, "_wait", interrupted)
    with pytest.raises(Stop):
        call(app, QUERY_STRING=query)
    assert ended.wait(30)


def test_a_server_that_stops_while_the_operation_is_recorded_leaves_nothing_behind() -> None:
    store, ended = Gate(Stop()), threading.Event()
    app = wrap(endless(ended), store=store, budget=60)
    store.may.set()
    with pytest.raises(Stop):
        call(app, QUERY_STRING="mark")
    assert ended.wait(30)
    until_idle(app)
    assert states(app) == []


def test_a_server_that_stops_waiting_for_the_response_stops_the_handler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(_: Any) -> None:
        raise Stop

    ended = threading.Event()
    app = wrap(endless(ended), budget=60)
    monkeypatch.setattr("raincheck.wsgi.channel.Channel.wait", interrupted)
    with pytest.raises(Stop):
        call(app)
    assert ended.wait(30)


def test_a_202_that_cannot_be_sent_does_not_end_its_handler() -> None:
    def broken(*_: Any) -> Any:
        raise OSError("connection lost")

    release = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        assert release.wait(30)
        return answer(start_response)

    wrapped = wrap(app)
    with pytest.raises(OSError, match="connection lost"):
        wrapped(environ_of(), broken)
    release.set()
    until_idle(wrapped)
    assert states(wrapped) == ["succeeded"]


# --- what handlers do --------------------------------------------------------------------------


def test_a_handler_that_exits_ends_its_operation(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise SystemExit(3)

    wrapped = wrap(app, budget=0)
    assert follow(wrapped, call(wrapped)).status == 500
    assert repr(call(wrap(app, budget=60)).error) == "SystemExit(3)"


def test_a_response_that_is_too_large_fails_and_stops_its_handler() -> None:
    ended = threading.Event()
    wrapped = wrap(endless(ended), budget=0, limits={"response_body": 1_000_000})
    done = follow(wrapped, call(wrapped))
    assert (done.status, b"response_too_large" in done.content) == (500, True)
    assert ended.wait(30)


def test_a_cancelled_stream_is_stopped_and_closed() -> None:
    ended = threading.Event()
    wrapped = wrap(endless(ended), budget=0)
    accepted = call(wrapped)
    call(wrapped, path_of(accepted), "DELETE")
    assert ended.wait(30)
    assert follow(wrapped, accepted).status == 410


def test_a_response_that_comes_after_the_cancellation_is_dropped() -> None:
    release = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        assert release.wait(30)
        return answer(start_response)

    wrapped = wrap(app, budget=0)
    accepted = call(wrapped)
    asked = call(wrapped, path_of(accepted), "DELETE")
    assert b'"cancelling"' in asked.content
    release.set()
    assert follow(wrapped, accepted).status == 410


@pytest.mark.parametrize("status", ["abc", "", "200"])
def test_a_status_that_is_none_is_no_response(status: str) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(status, [])
        return [b"done"]

    wrapped = wrap(app, budget=0)
    assert follow(wrapped, call(wrapped)).status == (200 if status == "200" else 500)


@pytest.mark.parametrize("field", [("X-A", "\u20ac"), ("X-A", b"1"), ("X-A",), None])
def test_a_header_field_that_is_none_is_no_response(field: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [field])
        return [b"done"]

    wrapped = wrap(app, budget=0)
    assert follow(wrapped, call(wrapped)).status == 500


@pytest.mark.parametrize("body", [None, 3, ["text"], [3], "text"])
def test_a_body_that_is_none_fails_as_without_raincheck(body: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return body  # type: ignore[no-any-return]

    assert call(app).error is not None
    assert call(wrap(app, budget=60)).error is not None
    wrapped = wrap(app, budget=0)
    assert follow(wrapped, call(wrapped)).status == 500


def test_a_buffer_that_is_used_again_is_copied() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytearray]:
        start_response("200 OK", [])
        buffer = bytearray(b"abc")
        yield buffer
        buffer[:] = b"xyz"
        yield buffer

    wrapped = wrap(app, budget=0)
    assert follow(wrapped, call(wrapped)).content == b"abcxyz"


def test_an_exception_is_logged_once_and_tells_clients_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise ValueError("secret")

    wrapped = wrap(app, budget=0)
    accepted = call(wrapped)
    assert b"secret" not in follow(wrapped, accepted).content
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]
    assert caplog.text.count("ValueError: secret") == 1
    assert path_of(accepted).rpartition("/")[2] not in caplog.text


def test_a_store_that_chokes_on_the_response_still_ends_the_operation() -> None:
    class Choking(MemoryStore):
        def write_chunk(self, *_: Any) -> None:
            raise TypeError("can't be written")

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for _ in range(4):
            yield b"x" * 200_000

    wrapped = wrap(app, store=Choking(), budget=0)
    assert follow(wrapped, call(wrapped)).status == 500
