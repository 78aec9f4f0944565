"""What becomes of the request body, which is read before the handler's thread begins."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from tests.support.wsgi import (
    SHORT,
    WAYS,
    Call,
    Untouchable,
    call,
    deferred,
    engine_of,
    environ_of,
    follow,
    in_time,
    until_free,
    wrap,
)

LARGE = bytes(range(256)) * 8192  # 2 MiB: more than is kept in memory


def echo(environ: Any, start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"[", body, b"]"]


class Wire(io.RawIOBase):
    """A connection that gives little at a time and fails where a read would wait for ever.

    Args:
        pieces: What comes; an exception is raised.
        ends: Whether the server says where the body ends.
    """

    def __init__(self, *pieces: bytes | Exception, ends: bool = False) -> None:
        self.pieces = list(pieces)
        self.ends = ends
        self.reader: set[int] = set()

    def read(self, size: int | None = -1) -> bytes:
        self.reader.add(threading.get_ident())
        if not self.pieces:
            assert self.ends, "a read that never returns"
            return b""
        assert self.ends or size not in (None, -1), "a read that never returns"
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        most = len(piece) if size in (None, -1) else size
        if piece[most:]:
            self.pieces.insert(0, piece[most:])
        return piece[:most]


def post(app: Any, wire: Any, length: int | None, **more: Any) -> Any:
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    return Call(app, environ_of("/", "POST", headers, **more) | {"wsgi.input": wire}).run()


CHUNKED: dict[str, Any] = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}


@pytest.mark.parametrize("body", [b"", b"body", LARGE], ids=["none", "small", "large"])
@pytest.mark.parametrize("way", WAYS)
def test_a_body_reaches_the_handler(way: Any, body: bytes) -> None:
    assert way(echo, "/", "POST", body=body).content == b"[%s]" % body


@pytest.mark.parametrize("pieces", [[b"ab", b"cd", b"ef"], [LARGE[:70_000], LARGE[70_000:]]])
@pytest.mark.parametrize("budget", [0, 60])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_comes_in_pieces_is_joined(
    pieces: list[bytes], budget: float, framing: str
) -> None:
    app, size = wrap(echo, budget=budget), sum(map(len, pieces))
    if framing == "length":
        done = post(app, Wire(*pieces), size)
    else:
        done = post(app, Wire(*pieces, ends=True), None, **CHUNKED)
    if not budget:
        done = follow(app, done)
    assert done.content == b"[%s]" % b"".join(pieces)


def test_no_more_is_read_than_was_declared() -> None:
    wire = Wire(b"body and the next request")
    assert post(wrap(echo, budget=60), wire, 4).content == b"[body]"
    assert wire.pieces == [b" and the next request"]


def test_nothing_is_read_where_nothing_is_declared() -> None:
    app = wrap(echo, budget=60)
    assert post(app, Wire(), None).content == b"[]"
    assert post(app, Wire(), 0).content == b"[]"
    assert post(app, Wire(), None, CONTENT_LENGTH="").content == b"[]"


def test_only_the_servers_thread_reads_from_the_server() -> None:
    wire = Wire(b"ab", b"cd")
    post(wrap(echo, budget=60), wire, 4)
    assert wire.reader == {threading.get_ident()}


@pytest.mark.parametrize("way", [in_time, deferred])
def test_a_body_that_nobody_reads_does_no_harm(way: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    assert way(app, "/", "POST", body=LARGE).content == b"done"


@pytest.mark.parametrize("way", WAYS)
def test_a_body_can_be_read_in_every_way_that_there_is(way: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        stream = environ["wsgi.input"]
        found = [stream.read(1), stream.readline(), stream.readline(2)]
        found += [*stream.readlines(3), *stream]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"|".join(found)]

    body = b"one\ntwo\nthree\nfour\nfive"
    assert way(app, "/", "POST", body=body).content == b"o|ne\n|tw|o\n|three\n|four\n|five"


# --- more than may be read ahead ---------------------------------------------------------------


class Told:
    """An application that notes in which thread it reads which body."""

    def __init__(self) -> None:
        self.thread = 0

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.thread = threading.get_ident()
        return echo(environ, start_response)


@pytest.mark.parametrize("size", [11, 100, 200_000])
def test_a_body_over_the_limit_is_not_promoted_and_still_whole(size: int) -> None:
    told, body = Told(), LARGE[:size]
    app = wrap(told, budget=0, limits={"request_body": 10}, store=Untouchable())
    wire = Wire(body)
    done = post(app, _Whole(wire, size), size)
    assert (done.status, done.content) == (200, b"[%s]" % body)
    done = post(app, Wire(*_cut(body), ends=True), None, **CHUNKED)
    assert (done.status, done.content) == (200, b"[%s]" % body)
    assert told.thread == threading.get_ident()


def test_a_body_of_the_limit_is_promoted() -> None:
    app = wrap(echo, budget=0, limits={"request_body": 10})
    assert follow(app, post(app, Wire(b"x" * 10), 10)).content == b"[xxxxxxxxxx]"
    done = follow(app, post(app, Wire(b"x" * 10, ends=True), None, **CHUNKED))
    assert done.content == b"[xxxxxxxxxx]"


def test_chunks_that_only_the_application_can_read_are_left_to_it() -> None:
    told, wire = Told(), Wire(b"body", ends=True)
    app = wrap(told, budget=0, store=Untouchable())
    assert post(app, wire, None, HTTP_TRANSFER_ENCODING="chunked").content == b"[body]"
    assert told.thread == threading.get_ident()


class _Whole(io.RawIOBase):
    """Reads a wire to its declared end, as most servers' streams do."""

    def __init__(self, wire: Wire, size: int) -> None:
        self._wire, self._rest = wire, size

    def read(self, size: int | None = -1) -> bytes:
        size = self._rest if size in (None, -1) else min(self._rest, size or 0)
        found = self._wire.read(size) if size else b""
        self._rest -= len(found)
        return found


def _cut(body: bytes) -> list[bytes]:
    return [body[n : n + 7] for n in range(0, 70, 7)] + [body[70:]] * bool(body[70:])


# --- clients that leave and servers that fail ---------------------------------------------------


class Left(OSError):
    """The client has left."""


@pytest.mark.parametrize("budget", [0, SHORT, 60])
def test_a_read_that_fails_fails_in_the_handler_as_without_raincheck(budget: float) -> None:
    seen: list[bytes] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.append(environ["wsgi.input"].read(2))
        seen.append(environ["wsgi.input"].read(2))
        raise AssertionError("not reached")

    wrapped = wrap(app, budget=budget, store=Untouchable())
    done = post(wrapped, Wire(b"ab", Left("gone"), Left("gone")), 9)
    assert (repr(done.error), seen) == ("Left('gone')", [b"ab"])


def test_an_upload_that_just_ends_early_is_seen_as_it_is() -> None:
    assert post(wrap(echo, budget=60), Wire(b"ab", ends=True), 9).content == b"[ab]"


# --- lengths that make no sense ----------------------------------------------------------------


@pytest.mark.parametrize("length", ["9" * 5000, "\xb2", "-1", "x", "1.0", "9" * 19])
@pytest.mark.parametrize("prefer", [None, b"wait=9"])
def test_an_absurd_content_length_is_the_applications_affair(
    length: str, prefer: bytes | None
) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["CONTENT_LENGTH"].encode("latin-1")]

    headers = [(b"prefer", prefer)] if prefer else []
    done = call(
        wrap(app, budget=60, store=Untouchable()), "/", "POST", headers, CONTENT_LENGTH=length
    )
    assert (done.error, done.content) == (None, length.encode("latin-1"))


# --- who reads it later ------------------------------------------------------------------------


def reading(size: int, kept: list[Any]) -> Any:
    """Return an application that reads the beginning of the body, and keeps its environ."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        kept.append(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["wsgi.input"].read(size)]

    return app


@pytest.mark.parametrize("whose", ["the server's environ", "the handler's environ", "the stream"])
@pytest.mark.parametrize("size", [0, 3])
@pytest.mark.parametrize("body", [b"abcdef", LARGE], ids=["small", "large"])
def test_what_the_handler_has_not_read_is_there_for_who_reads_later(
    body: bytes, size: int, whose: str
) -> None:
    kept = list[Any]()
    app = wrap(reading(size, kept), budget=60)
    environ = environ_of("/", "POST", body=body)
    stream = environ["wsgi.input"]
    assert Call(app, environ).run().content == body[:size]
    until_free(app)
    streams = {
        "the server's environ": environ["wsgi.input"],
        "the handler's environ": kept[0]["wsgi.input"],
        "the stream": stream,
    }
    assert streams[whose].read() == body[size:]


@pytest.mark.parametrize("body", [b"abcdef", LARGE], ids=["small", "large"])
def test_what_the_handler_has_read_is_gone_for_who_reads_later(body: bytes) -> None:
    kept = list[Any]()
    app = wrap(reading(-1, kept), budget=60)
    environ = environ_of("/", "POST", body=body)
    stream = environ["wsgi.input"]
    Call(app, environ).run()
    until_free(app)
    assert [one["wsgi.input"].read() for one in (environ, *kept)] == [b"", b""]
    assert stream.read() == b""
    assert set(engine_of(app).admission.spooled._bytes.values()) <= {0}


def test_a_body_of_a_refused_repetition_is_there_for_who_reads_later() -> None:
    app = wrap(reading(-1, []), budget=60)
    key = [(b"idempotency-key", b"8e03978e")]
    environs = [environ_of("/", "POST", key, body=b"abc") for _ in range(2)]
    assert [Call(app, environ).run().content for environ in environs] == [b"abc", b"abc"]
    assert environs[1]["wsgi.input"].read() == b"abc"
