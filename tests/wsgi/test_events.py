"""Clients that listen to an operation, each in a thread of its server's."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any
from wsgiref.validate import validator

import pytest

from raincheck import current_operation
from raincheck.wsgi import event_streams, leaving, waiting
from tests.support.wsgi import Call, call, engine_of, environ_of, path_of, until
from tests.unit.test_events import parse
from tests.wsgi.test_long_polls import MOST
from tests.wsgi.test_long_polls import Site as LongPolls

STREAM = [(b"accept", b"text/event-stream")]


class Site(LongPolls):
    """An application whose handler says how far it is when it is told to, and then answers."""

    operation = current_operation()

    def _handle(self, environ: Any, start_response: Any) -> Any:
        self.operation = current_operation()
        return super()._handle(environ, start_response)

    def listen(self, path: str, headers: Any = (), takes: int | None = None) -> Listener:
        """Have a client listen in another thread of the server, and leave after some chunks."""
        listener = Listener(self.app, environ_of(path, headers=[*STREAM, *headers]), takes)
        listener.future = self._pool.submit(listener.run)
        return listener

    def say(self, step: int) -> None:
        """Let the handler tell how far it is, and this be stored at once."""
        self.operation.progress(step, 10, f"step {step}")
        engine_of(self.app).beat()

    def start(self) -> str:
        before = self.operation
        path = path_of(call(self.app))
        until(lambda: self.operation is not before)
        return path


class Listener(Call):
    """A client that listens."""

    future: Future[Any]

    @property
    def events(self) -> list[dict[str, str]]:
        return [event for event in parse(self.content) if "data" in event]

    def hears_of(self, word: str) -> None:
        until(lambda: word in (self.events or [{"data": ""}])[-1]["data"])


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def test_who_listens_hears_of_progress_and_of_the_end(site: Site) -> None:
    listener = site.listen(site.start())
    listener.hears_of("running")
    for step in (5, 6):
        site.say(step)
        listener.hears_of(f"step {step}")
    site.go.set()
    assert listener.future.result(30).error is None
    assert listener.events[-1]["event"] == "end"
    assert site.waiters == 0


def test_it_is_as_wsgi_has_it_and_closed_before_it_has_begun(site: Site) -> None:
    path = site.start()
    strict: Any = validator(site.app)
    environ = environ_of(path, headers=STREAM)
    iterable = strict(environ, lambda status, headers, exc_info=None: lambda data: None)
    assert site.waiters == 1
    iterable.close()
    assert site.waiters == 0


def test_who_leaves_is_noticed_by_the_next_heartbeat(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "HEARTBEAT_SECONDS", 0.02)
    listener = site.listen(site.start(), takes=3)
    assert listener.future.result(30).error is None
    assert site.waiters == 0


def test_no_more_listen_than_may_wait_and_the_others_come_again(site: Site) -> None:
    path = site.start()
    listening = [site.listen(path) for _ in range(MOST)]
    until(lambda: site.waiters == MOST)
    turned_away = call(site.app, path, headers=STREAM)
    [event] = parse(turned_away.content)
    assert (turned_away.status, event["event"]) == (200, "status")
    assert int(event["retry"]) >= 8000
    site.go.set()
    for each in listening:
        each.future.result(30)
        assert each.events[-1]["event"] == "end"


def test_who_listens_gives_the_thread_to_a_request_that_needs_it(site: Site) -> None:
    path = site.start()
    listening = [site.listen(path) for _ in range(MOST)]
    until(lambda: site.waiters == MOST)
    turn = site.app._gateway.waiting.begin(lambda: None)
    with turn:
        until(lambda: site.waiters == MOST - 1)
    [away] = [each for each in listening if each.future.done()]
    last = away.content.rstrip(b"\n").rpartition(b"\n")[2]
    assert last.startswith(b"retry: ")
    assert int(last.removeprefix(b"retry: ")) >= 8000


def test_where_there_is_one_thread_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "serving_threads", lambda: 1)
    site = Site(limits={})
    path = site.start()
    refused = call(site.app, path, headers=STREAM)
    assert refused.status == 406
    assert b'"no-events"' in refused.content
    assert call(site.app, path).status == 202
    site.go.set()
    until(lambda: call(site.app, path).status == 200)
    told = call(site.app, path, headers=STREAM)
    assert [event["event"] for event in parse(told.content)] == ["end"]
    site.close()


def test_a_stream_that_others_lose_unclosed_keeps_no_thread(site: Site) -> None:
    path = site.start()
    stream = site.app(environ_of(path, headers=STREAM), lambda *_: lambda data: None)
    next(iter(stream))
    assert site.waiters == 1
    del stream  # as middleware around that raises
    gc.collect()
    until(lambda: not site.waiters)
    turns = site.app._gateway.waiting._crowd_of.get()._turns
    assert turns == []
    site.go.set()


def test_who_has_listened_for_long_is_told_to_come_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "LONGEST_SECONDS", 0.0)
    monkeypatch.setattr(event_streams, "HEARTBEAT_SECONDS", 0.01)
    listener = site.listen(site.start())
    assert listener.future.result(30).error is None
    last = listener.content.rstrip(b"\n").rpartition(b"\n")[2]
    assert 1000 <= int(last.removeprefix(b"retry: ")) <= 4000
    site.go.set()


def test_the_end_of_the_process_lets_all_go(site: Site) -> None:
    listener = site.listen(site.start())
    listener.hears_of("running")
    threading.Thread(target=leaving.drain).start()
    assert listener.future.result(30).error is None
    assert listener.events[-1]["event"] == "status"
    site.go.set()
