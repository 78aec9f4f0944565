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
    assert ended.wait(30)
    until_free(wrapped)
    assert said() == []


# --- what a server sees, bare and wrapped -------------------------------------------------------


class Server(Call):
    """A server that notes what happens to it, and what the application does, in one order."""

    log: list[str]

    def serve(self) -> None:
        result = iter(self.app(self.environ, self.start_response))
        try:
            for piece in result:
                self.log.append(f"took {piece!r}")
                if len(self.log) == self.takes:
                    return
            self.log.append("took all")
        finally:
            if hasattr(result, "close"):
                result.close()
            self.log.append("closed")


class Noted(Body):
    """An iterable that notes when it makes a piece, and when it is closed."""

    def __init__(self, log: list[str], *about: Any) -> None:
        super().__init__(*about)
        self.log = log

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self.chunks:
            raise self.error or StopIteration
        piece, *self.chunks = self.chunks
        self.log.append(f"made {piece!r}")
        return piece

    def close(self) -> None:
        self.log.append("close")
        super().close()


def seen(
    wrapped_by: Any, pieces: list[bytes], status: str = "200 OK", takes: int | None = None
) -> list[str]:
    """Return what happens to a server whose client leaves after some pieces."""
    log = list[str]()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(status, TEXT)
        return Noted(log, pieces)

    server = Server(wrapped_by(app), environ_of(), takes=takes)
    server.log = log
    assert server.run().error is None
    return log


def patiently(app: Any) -> Any:
    return wrap(app, budget=60)


def bare(app: Any) -> Any:
    return app


EMPTY: dict[str, tuple[str, list[bytes]]] = {
    "one empty piece": ("200 OK", [b""]),
    "no piece": ("204 No Content", []),
    "a redirect": ("302 Found", [b""]),
    "empty ones before": ("200 OK", [b"", b"", b"one"]),
    "empty ones between and after": ("200 OK", [b"one", b"", b"two", b"", b""]),
}


@pytest.mark.parametrize("case", EMPTY)
def test_a_server_takes_the_empty_pieces_that_an_application_makes(case: str) -> None:
    status, pieces = EMPTY[case]
    took = [line for line in seen(patiently, pieces, status) if line.startswith("took")]
    assert took == [*(f"took {piece!r}" for piece in pieces), "took all"]


def test_an_empty_piece_that_is_written_is_taken_too() -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"")
        return []

    assert list(patiently(app)(environ_of(), lambda *_: print)) == [b""]


@pytest.mark.parametrize("pieces", [[], [b"one"], [b"one", b"two", b"three"]])
def test_an_iterable_is_closed_when_the_servers_close_returns_and_not_before(
    pieces: list[bytes],
) -> None:
    assert seen(patiently, pieces)[-3:] == ["took all", "close", "closed"]
    assert seen(bare, pieces)[-3:] == ["took all", "close", "closed"]


def test_from_the_second_piece_on_one_is_made_when_the_server_asks_for_it() -> None:
    pieces = [b"one", b"two", b"three", b"four"]
    log = seen(patiently, pieces)
    expected = seen(bare, pieces)
    log.remove("made b'two'")  # as soon as there is a first one, and nobody can say when
    expected.remove("made b'two'")
    assert log == expected


@pytest.mark.parametrize(("takes", "ahead"), [(2, 1), (4, 0), (6, 0)])
def test_for_a_client_that_has_left_not_more_than_the_second_piece_is_made(
    takes: int, ahead: int
) -> None:
    log = seen(patiently, [b"x"] * 9, takes=takes + ahead)
    made, took = (sum(line.startswith(word) for line in log) for word in ("made", "took"))
    assert 0 <= made - took <= ahead
    assert log[-2:] == ["close", "closed"]


def test_an_error_in_close_does_not_cut_a_response_that_is_complete() -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("204 No Content", [])
        return Sour([])

    class Sour(Body):
        def close(self) -> None:
            raise ValueError("sour")

    result: Any = patiently(app)(environ_of(), lambda *_: print)
    assert list(result) == []
    with pytest.raises(ValueError, match="sour"):
        result.close()
    result.close()


def test_an_error_in_the_iteration_is_raised_there_and_the_iterable_closed_after_it() -> None:
    bodies, statuses = list[Body](), list[str]()
    app = patiently(returning(bodies, chunks=(), error=ValueError("mine")))
    result: Any = app(environ_of(), lambda status, *_: statuses.append(status))
    assert statuses == ["200 OK"]
    with pytest.raises(ValueError, match="mine"):
        next(result)
    assert bodies[0].closed_in == []
    result.close()
    assert bodies[0].is_closed_once_and_in_its_thread


def test_a_server_that_forgets_to_close_keeps_no_thread() -> None:
    bodies = list[Body]()
    app = patiently(returning(bodies))
    result: Any = app(environ_of(), lambda *_: print)
    assert next(result) == b"one"
    del result
    until_free(app)
    assert bodies[0].is_closed_once_and_in_its_thread


def test_a_complete_response_is_not_kept_from_its_server_by_what_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go_on = threading.Event()

    def parts() -> Iterator[bytes]:
        yield b"done"
        assert go_on.wait(30)
        raise ValueError("later")

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT, ("Content-Length", "4")])
        return parts()

    wrapped = patiently(app)
    assert Call(wrapped, environ_of()).run().content == b"done"
    go_on.set()
    until_free(wrapped)
    assert "ValueError: later" in caplog.text
