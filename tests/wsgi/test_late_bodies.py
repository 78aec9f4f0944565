"""A client that announces a body and sends none keeps no thread from its handler's answer.

The streams are those of real servers, on real sockets.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from select import select
from typing import Any

import pytest

from raincheck.wsgi import request_body
from raincheck.wsgi.arriving import is_empty
from tests.support.wsgi import Call, Untouchable, environ_of, follow, wrap

SOON = 0.05  # seconds
Line = tuple[socket.socket, socket.socket]  # of a client and a server
KEY = (b"idempotency-key", b"8e03978e")


STREAMS: list[Any] = []  # of the test that runs


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATIENCE", "_OF_SAFE", "_OF_KEYS"):
        monkeypatch.setattr(request_body, name, SOON)


@pytest.fixture
def line() -> Iterator[Line]:
    """Connect a client and a server."""
    client, server = socket.socketpair()
    with client, server:
        client.settimeout(20)
        server.settimeout(None)
        yield client, server
        while STREAMS:  # or tracebacks of theirs keep the socket open
            STREAMS.pop().close()


def of_gunicorn(line: Line, head: str) -> Any:
    """Return the body that gunicorn gives to an application."""
    client, server = line
    config = import_module("gunicorn.config").Config()
    parser = import_module("gunicorn.http.parser").RequestParser
    client.sendall(f"POST / HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n".encode())
    return next(parser(config, server, ("127.0.0.1", 1))).body


def of_http_server(line: Line, head: str) -> Any:
    """Return the body that wsgiref and werkzeug give to an application."""
    STREAMS.append(line[1].makefile("rb"))
    return STREAMS[-1]


Server = Callable[[Line, str], Any]
SERVERS = [of_gunicorn, of_http_server]


def request(
    stream: Any, length: int | None, method: str = "POST", headers: Iterable[Any] = ()
) -> dict[str, Any]:
    declared = [] if length is None else [(b"content-length", b"%d" % length)]
    environ = environ_of("/", method, [*headers, *declared]) | {"wsgi.input": stream}
    if length is None:
        environ |= {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    return environ


def deaf(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


def echo(environ: Any, start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH", -1)))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("budget", [0, 60])
@pytest.mark.parametrize("sent", [b"", b"abc"], ids=["nothing", "half"])
def test_a_handler_that_wants_no_body_answers_without(
    line: Line, server: Server, method: str, budget: float, sent: bytes
) -> None:
    stream = server(line, "Content-Length: 6")
    line[0].sendall(sent)
    app = wrap(deaf, budget=budget, store=Untouchable())
    done = Call(app, request(stream, 6, method)).run()
    assert (done.status, done.content) == (200, b"done")


@pytest.mark.parametrize("server", SERVERS)
def test_a_handler_that_wants_the_body_waits_for_it_as_it_would_without(
    line: Line, server: Server
) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        line[0].sendall(b"defghi and the next request")
        return echo(environ, start_response)

    stream = server(line, "Content-Length: 9")
    line[0].sendall(b"abc")
    done = Call(wrap(app, budget=0, store=Untouchable()), request(stream, 9)).run()
    assert (done.status, done.content) == (200, b"abcdefghi")


@pytest.mark.parametrize("server", SERVERS)
def test_what_comes_in_pieces_is_waited_for(
    line: Line, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send() -> None:
        for _ in range(64):
            line[0].sendall(b"x" * 4096)

    monkeypatch.setattr(request_body, "PATIENCE", 20)
    stream = server(line, f"Content-Length: {64 * 4096}")
    sender = threading.Thread(target=send)
    sender.start()
    app = wrap(echo, budget=0)
    accepted = Call(app, request(stream, 64 * 4096)).run()
    sender.join()
    assert follow(app, accepted).content == b"x" * 64 * 4096


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_that_leaves_is_not_waited_for(line: Line, server: Server) -> None:
    stream = server(line, "Content-Length: 6")
    line[0].sendall(b"abc")
    line[0].shutdown(socket.SHUT_WR)
    app = wrap(echo, budget=0, store=Untouchable())
    assert Call(app, request(stream, 6)).run().content == b"abc"


@pytest.mark.parametrize("server", SERVERS)
def test_a_body_that_belongs_to_a_key_and_does_not_come_is_refused(
    line: Line, server: Server
) -> None:
    stream = server(line, "Content-Length: 6")
    app = wrap(deaf, budget=60, store=Untouchable())
    done = Call(app, request(stream, 6, headers=[KEY])).run()
    assert (done.status, done.header(b"connection")) == (408, b"close")


@pytest.mark.parametrize("server", SERVERS)
def test_a_body_that_comes_late_to_what_would_be_coalesced_is_read_by_its_handler_alone(
    line: Line, server: Server
) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        line[0].sendall(b"def")
        return echo(environ, start_response)

    stream = server(line, "Content-Length: 6")
    line[0].sendall(b"abc")
    wrapped = wrap(app, budget=60, store=Untouchable(), coalesce=["/**"])
    done = Call(wrapped, request(stream, 6, "GET")).run()
    assert (done.status, done.content) == (200, b"abcdef")


CHUNKED = "Transfer-Encoding: chunked"


def test_chunks_that_do_not_come_are_not_waited_for(line: Line) -> None:
    stream = of_gunicorn(line, CHUNKED)
    done = Call(wrap(deaf, budget=0, store=Untouchable()), request(stream, None)).run()
    assert (done.status, done.content) == (200, b"done")


@pytest.mark.parametrize("sent", [b"", b"3\r\nabc\r\n", b"3\r\na", b"3"], ids=repr)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_chunks_come_whole_however_long_their_client_pauses(
    line: Line, monkeypatch: pytest.MonkeyPatch, method: str, sent: bytes
) -> None:
    rest = [b"3\r\nabc\r\n0\r\n\r\n"[len(sent) :]]

    def look_again(*arguments: Any, **options: Any) -> Any:
        if rest and not select([line[1]], [], [], 0)[0]:
            line[0].sendall(rest.pop())  # only to who waits for it as long as it takes
        return look(*arguments, **options)

    stream = of_gunicorn(line, CHUNKED)
    line[0].sendall(sent)
    unreader = stream.reader.req.unreader
    look = unreader.chunk
    monkeypatch.setattr(unreader, "chunk", look_again)
    app = wrap(echo, budget=60)
    assert Call(app, request(stream, None, method)).run().content == b"abc"


def test_chunks_that_have_come_are_not_waited_for(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "PATIENCE", 3600)
    stream = of_gunicorn(line, CHUNKED)
    line[0].sendall(b"3\r\nabc\r\n0\r\n\r\n")
    app = wrap(echo, budget=0)
    assert follow(app, Call(app, request(stream, None)).run()).content == b"abc"


@pytest.mark.parametrize(("length", "is_there"), [("", False), ("Content-Length: 3", True)])
def test_a_body_that_is_none_is_seen_without_reading(
    line: Line, length: str, is_there: bool
) -> None:
    stream = of_gunicorn(line, length)
    line[0].sendall(b"abc")  # or it is the next request
    assert is_empty(stream) is not is_there
    environ = environ_of("/", "POST") | {"wsgi.input": stream, "wsgi.input_terminated": True}
    environ.pop("CONTENT_LENGTH", None)
    wrapped = wrap(echo, budget=60)
    assert Call(wrapped, environ).run().content == (b"abc" if is_there else b"")
