"""The end of an iterable: `close()` is called once, in the handler's thread, whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.support.wsgi import WAYS, Call, deferred, environ_of, in_time, until, until_free, wrap
from tests.wsgi.conftest import Said
from tests.wsgi.test_pep3333 import TEXT


class Body:
    """An iterable that knows who iterates it and who closes it."""

    def __init__(self, chunks: Iterable[bytes] = (b"one", b"two"), error: Any = None) -> None:
        self.chunks, self.error = chunks, error
        self.called_in = threading.get_ident()
        self.iterated_in = 0
        self.closed_in: list[int] = []

    def __iter__(self) -> Iterator[bytes]:
        self.iterated_in = threading.get_ident()
        yield from self.chunks
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed_in.append(threading.get_ident())

    @property
    def is_closed_once_and_in_its_thread(self) -> bool:
        return self.closed_in == [self.called_in] and self.iterated_in in (0, self.called_in)


class ListBody(list[bytes]):
    """A list that wants to be closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def returning(bodies: list[Body], **about: Any) -> Any:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        bodies.append(Body(**about))
        return bodies[0]

    return app


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [None, ValueError("mine")])
def test_an_iterable_is_closed_once_in_the_handlers_thread(way: Any, error: Any) -> None:
    bodies: list[Body] = []
    answer = way(returning(bodies, error=error))
    until(lambda: bodies[0].closed_in)
    assert bodies[0].is_closed_once_and_in_its_thread
    if error is None:
        assert answer.content == b"onetwo"
    else:
        assert answer.error is error or answer.status == 500


@pytest.mark.parametrize("way", WAYS)
def test_a_list_that_wants_to_be_closed_is_closed_once(way: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return body

    body = ListBody([b"done"])
    assert way(app).content == b"done"
    until(lambda: body.closed)
    assert body.closed == 1


def test_an_iterable_is_closed_if_the_client_leaves() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    bodies: list[Body] = []
    app = wrap(returning(bodies, chunks=endless()), budget=60)
    answer = Call(app, environ_of(), takes=3).run()
    assert len(answer.chunks) == 3
    until(lambda: bodies[0].closed_in)
    assert bodies[0].is_closed_once_and_in_its_thread


def test_an_iterable_is_closed_if_the_server_refuses_its_headers() -> None:
    class Server(Call):
        def start_response(self, *arguments: Any) -> Any:
            raise ValueError("no such header")

    bodies: list[Body] = []
    app = wrap(returning(bodies, chunks=[b"x" * 300_000] * 9), budget=60)
    assert repr(Server(app, environ_of()).run().error) == "ValueError('no such header')"
    until(lambda: bodies[0].closed_in)


def test_an_error_in_close_is_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    class Sour(Body):
        def close(self) -> None:
            raise ValueError("sour")

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return Sour()

    assert repr(in_time(app).error) == "ValueError('sour')"
    assert deferred(app).content == b"onetwo"
    until(lambda: "ValueError: sour" in caplog.text)


def test_a_writer_whose_client_has_left_is_stopped_without_a_noise(said: Said) -> None:
    ended = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", TEXT)
        try:
            while True:
                write(b"x" * 65536)
        finally:
            ended.set()

    wrapped = wrap(app, budget=60)
    Call(wrapped, environ_of(), takes=3).run()
    assert ended.wait(10)
    until_free(wrapped)
    assert said() == []
