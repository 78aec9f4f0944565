"""What the two threads of a request tell each other: nobody is woken for nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from raincheck.wsgi.closing import is_of_memory
from raincheck.wsgi.news import News
from tests.support.wsgi import SHORT, WAYS, call, environ_of, in_time, until, wrap


def test_a_thread_is_woken_only_when_what_it_waits_for_is_there() -> None:
    news, there, woken = News(), list[int](), list[bool]()
    waiting = threading.Thread(target=lambda: woken.append(news.wait_for(lambda: there)))
    waiting.start()
    until(lambda: news._waiters)
    asleep = news._waiters[0][1]
    news.tell_all()
    assert asleep.locked()
    there.append(1)
    news.tell_all()
    waiting.join(30)
    assert woken == [True]
    assert news._waiters == []


def test_a_wait_that_has_run_out_leaves_nothing_behind() -> None:
    news = News()
    assert not news.wait_for(lambda: False, SHORT)
    assert not news.wait_for(lambda: False, -1)
    assert news._waiters == []


def test_a_wait_that_is_broken_off_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def acquire(self, *timeout: float) -> bool:
            if timeout:
                raise KeyboardInterrupt
            return True

    news = News()
    monkeypatch.setattr(threading, "Lock", Broken)
    with pytest.raises(KeyboardInterrupt):
        news.wait_for(lambda: False)
    assert news._waiters == []


def test_who_is_told_while_it_tells_wakes_nobody_twice() -> None:
    news, there = News(), list[int]()

    def is_there() -> bool:
        if there and there.pop():
            news.tell()
        return bool(there)

    waiting = threading.Thread(target=lambda: news.wait_for(is_there))
    waiting.start()
    until(lambda: news._waiters)
    there.extend((1, 0, 1))
    with news.lock:
        news.tell()
    there.append(0)
    news.tell_all()
    waiting.join(30)
    assert not waiting.is_alive()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the threads that wait, as they begin to."""
    waits, wait_for = list[str](), News.wait_for

    def counting(news: News, *about: Any) -> bool:
        waits.append(threading.current_thread().name)
        return wait_for(news, *about)

    monkeypatch.setattr(News, "wait_for", counting)
    return waits


@pytest.mark.parametrize("kind", ["a list", "werkzeug's"])
def test_the_servers_thread_waits_once_for_what_is_in_memory_and_the_handlers_never(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def plain(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"do", b"ne"]

    wrapped = wrap(plain if kind == "a list" else Response(["do", "ne"]))
    call(wrapped)  # the first of a process does more
    waits = counted(monkeypatch)
    assert call(wrapped).content == b"done"
    assert waits == [threading.current_thread().name]


class Own(Response):
    def close(self) -> None:
        """Do what another one does not."""
        super().close()


def streamed() -> Iterator[str]:
    yield "done"


def listening() -> Response:
    response = Response("done")
    response.call_on_close(lambda: None)
    return response


def of_two() -> Any:
    body, other = Response(streamed()), Response("done")
    return lambda *_: ClosingIterator(body.iter_encoded(), other.close)


KINDS: dict[str, tuple[Any, bool]] = {
    "in memory": (Response(["do", "ne"]), True),
    "none at all": (Response(status=204), True),
    "streamed": (Response(streamed()), False),
    "listens": (listening(), False),
    "closes otherwise": (Own("done"), False),
    "closes something else": (lambda *_: ClosingIterator([b"done"], print), False),
    "closes nothing": (lambda *_: ClosingIterator([b"done"]), False),
    "of a map": (lambda *_: ClosingIterator(map(bytes, []), Response("done").close), False),
    "two responses": (of_two(), False),
    "a list": (lambda *_: [b"done"], False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_in_memory_and_closes_nothing_is_taken_for_that(kind: str) -> None:
    app, expected = KINDS[kind]
    assert is_of_memory(app(environ_of(), lambda *_: None)) is expected


@pytest.mark.parametrize("way", WAYS)
def test_what_a_response_of_werkzeug_calls_when_it_is_closed_is_called_in_its_thread(
    way: Any,
) -> None:
    called, threads = list[int](), list[int]()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        threads.append(threading.get_ident())
        response = Response(["do", "ne"])
        response.call_on_close(lambda: called.append(threading.get_ident()))
        return response(environ, start_response)

    assert way(app).content == b"done"
    until(lambda: called)
    assert called == threads


def test_the_pieces_of_a_response_in_memory_are_the_ones_that_it_has() -> None:
    wrapped, begun = wrap(Response(["do", "", "ne"])), list[Any]()
    app: Any = wrapped
    body = app(environ_of(), lambda *start: begun.append(start))
    assert not hasattr(body, "__len__"), "servers would say how long it is"
    assert [*body] == [b"do", b"", b"ne"]
    assert begun[0][0] == "200 OK"
    assert in_time(Response("done")).content == b"done"
