"""PEP 3333 to the letter: what it allows an application and a server works through raincheck."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.support.wsgi import (
    WAYS,
    Call,
    call,
    deferred,
    environ_of,
    follow,
    in_time,
    path_of,
    strictly,
    until,
    wrap,
)

TEXT = [("Content-Type", "text/plain")]


# --- ways to answer ----------------------------------------------------------------------------


def listed(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return [b"one", b"", b"two"]


def generated(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return (chunk for chunk in (b"", b"one", b"", b"two", b""))


def late(environ: Any, start_response: Any) -> Iterable[bytes]:
    yield from ()
    start_response("200 OK", TEXT)
    yield b"one"
    yield b"two"


def written(environ: Any, start_response: Any) -> Iterable[bytes]:
    write = start_response("200 OK", TEXT)
    write(b"one")
    write(b"two")
    return []


def written_and_listed(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)(b"one")
    return [b"two"]


def written_and_generated(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)(b"one")
    return iter([b"two"])


def replaced(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("500 No", [("X-Wrong", "1"), *TEXT])
    try:
        raise ValueError
    except ValueError:
        start_response("200 OK", TEXT, sys.exc_info())
    return [b"onetwo"]


def replaced_in_a_generator(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("500 No", [("X-Wrong", "1"), *TEXT])
    try:
        raise ValueError
    except ValueError:
        start_response("200 OK", TEXT, sys.exc_info())
    yield b"onetwo"


def from_a_file(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    file_wrapper: Any = environ.get("wsgi.file_wrapper", iter)
    return file_wrapper(io.BytesIO(b"onetwo"))  # type: ignore[no-any-return]


ANSWERS = [
    *(listed, generated, late, written, written_and_listed, written_and_generated, replaced),
    *(replaced_in_a_generator, from_a_file),
]


@pytest.mark.parametrize("wrapped_by", [wrap, strictly])
@pytest.mark.parametrize("way", [in_time, deferred])
@pytest.mark.parametrize("app", ANSWERS)
def test_every_way_to_answer_is_the_same_through_raincheck(
    app: Any, way: Any, wrapped_by: Any
) -> None:
    answer = way(app, wrapped_by=wrapped_by)
    assert (answer.error, answer.status_line, answer.content) == (None, "200 OK", b"onetwo")
    assert answer.headers[0] == (b"Content-Type", b"text/plain")
    assert answer.header(b"X-Wrong") is None
    assert way is deferred or answer.raw_headers == TEXT


@pytest.mark.parametrize("way", WAYS)
def test_a_tuple_is_a_body_as_good_as_a_list(way: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return (b"one", b"two")

    assert way(app).content == b"onetwo"


@pytest.mark.parametrize("body", [[b"done"], (b"do", b"ne"), [], [b""]])
def test_a_body_in_memory_is_handed_on_so_that_a_server_can_see_its_length(body: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return body  # type: ignore[no-any-return]

    assert in_time(app).result is body


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_response_without_content(way: Any, status: str) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(status, [("X-A", "1")])
        return []

    answer = way(app)
    assert answer.content == b""
    assert answer.headers[0] == (b"X-A", b"1")
    if answer.header(b"operation-result-status") == b"304":  # at R, where nobody has asked for it
        assert (answer.status, answer.header(b"content-length")) == (200, b"0")
    else:
        assert answer.status == int(status[:3])
        assert answer.header(b"content-length") is None


@pytest.mark.parametrize("way", WAYS)
def test_header_values_are_latin_1_and_repeated_ones_stay_in_order(way: Any) -> None:
    fields = [("X-Name", "caf\xe9"), ("x-name", "\xff"), ("X-Name", "")]

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT, *fields])
        return [b"x"]

    assert way(app).raw_headers[1:4] == fields


@pytest.mark.parametrize("way", WAYS)
def test_headers_may_be_changed_before_the_first_byte(way: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        headers = list(TEXT)
        start_response("200 OK", headers)
        yield b""
        headers.append(("X-Late", "1"))
        yield b"x"

    assert way(app).header(b"X-Late") == b"1"


def test_an_empty_first_chunk_does_not_start_the_response() -> None:
    go_on = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b""
        assert go_on.wait(30)
        yield b"done"

    wrapped = wrap(app)
    accepted = call(wrapped)
    go_on.set()
    assert follow(wrapped, accepted).content == b"done"


@pytest.mark.parametrize("way", WAYS)
def test_a_third_argument_may_be_named(way: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT, exc_info=None)
        return [b"x"]

    assert way(app).content == b"x"


# --- what is forbidden -------------------------------------------------------------------------


def twice(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return [b"x"]


def never(environ: Any, start_response: Any) -> Iterable[bytes]:
    return []


def body_without_start(environ: Any, start_response: Any) -> Iterable[bytes]:
    return [b"x"]


def body_before_start(environ: Any, start_response: Any) -> Iterable[bytes]:
    yield b"x"
    start_response("200 OK", TEXT)
    yield b"y"


def second_start_after_output(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    yield b"x"
    start_response("200 OK", TEXT)


@pytest.mark.parametrize(
    "app", [twice, never, body_without_start, body_before_start, second_start_after_output]
)
def test_an_application_that_breaks_the_protocol_fails_as_without_raincheck(app: Any) -> None:
    bare, wrapped = call(app), in_time(app)
    assert isinstance(bare.error, AssertionError)
    assert isinstance(wrapped.error, AssertionError)
    assert wrapped.content == bare.content
    assert deferred(app).status == 500


@pytest.mark.parametrize("way", [call, in_time])
def test_exc_info_after_output_raises_what_it_says(way: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"half"
        try:
            raise ValueError("mine")
        except ValueError:
            start_response("500 No", TEXT, sys.exc_info())
        yield b"never"

    answer = way(app)
    assert (repr(answer.error), answer.content) == ("ValueError('mine')", b"half")
    assert deferred(app).status == 500


def test_exc_info_reaches_the_server_if_nothing_was_sent() -> None:
    class Server(Call):
        def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
            seen.append(exc_info and exc_info[0])
            return super().start_response(status, headers, exc_info)

    seen: list[Any] = []
    Server(wrap(replaced, budget=60), environ_of()).run()
    assert seen == [ValueError]


# --- Content-Length ----------------------------------------------------------------------------


def declaring(length: int, *chunks: bytes) -> Any:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [*TEXT, ("Content-Length", str(length))])
        yield from chunks

    return app


@pytest.mark.parametrize("length", [0, 1, 4, 100])
def test_a_body_of_another_length_than_declared_is_no_response(length: int) -> None:
    assert deferred(declaring(length, b"on", b"e")).status == 500


def test_a_body_shorter_than_declared_is_the_servers_affair() -> None:
    assert in_time(declaring(100, b"on", b"e")).content == b"one"


def test_the_client_has_a_response_of_declared_length_before_its_application_ends() -> None:
    go_on, closed = threading.Event(), threading.Event()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from declaring(3, b"on", b"e")(environ, start_response)
        assert go_on.wait(30)
        closed.set()

    assert in_time(app).content == b"one"
    assert not closed.is_set()
    go_on.set()
    assert closed.wait(30)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("declared", ["\xb2", "9" * 5000, "x", "5", ""])
def test_an_absurd_length_breaks_nothing_but_its_own_response(way: Any, declared: str) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", declared)])
        return [b"done"]

    answer = way(app)
    assert answer.error is None
    assert answer.status == (500 if way is deferred else 200)


# --- environ -----------------------------------------------------------------------------------


def test_an_environ_that_the_server_empties_is_still_whole_for_the_handler() -> None:
    emptied = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        assert emptied.wait(30)
        start_response("200 OK", TEXT)
        environ["wsgi.errors"].write("")
        return [environ["PATH_INFO"].encode() + environ["wsgi.input"].read()]

    wrapped = wrap(app)
    accepted = Call(wrapped, environ_of("/x", "POST", body=b"!"), empties=True).run()
    assert accepted.environ == {}
    emptied.set()
    assert follow(wrapped, accepted).content == b"/x!"


def test_what_the_handler_changes_in_its_environ_is_not_seen_by_the_poll_links() -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/shifted", "/else"
        assert go_on.wait(30)
        return listed(environ, start_response)

    go_on = threading.Event()
    wrapped = wrap(app)
    accepted = call(wrapped, "/x", SCRIPT_NAME="/v1")
    go_on.set()
    assert accepted.header(b"location").startswith(b"http://testserver/v1/operations/")
    assert follow(wrapped, accepted).content == b"onetwo"


@pytest.mark.parametrize("way", [in_time, deferred])
def test_the_servers_file_wrapper_is_not_used_in_another_thread(way: Any) -> None:
    class Wrapper:
        """A server's own, which may send a file from its thread only."""

        def __init__(self, *_: Any) -> None:
            raise AssertionError("used in the handler's thread")

    answer = way(from_a_file, **{"wsgi.file_wrapper": Wrapper})
    assert (answer.error, answer.content) == (None, b"onetwo")


@pytest.mark.parametrize("way", [in_time, deferred])
def test_a_file_is_closed(way: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](file)  # type: ignore[no-any-return]

    file = io.BytesIO(b"x" * 100_000)
    assert way(app, **{"wsgi.file_wrapper": iter}).content == b"x" * 100_000
    until(lambda: file.closed)


def test_the_handler_is_told_that_other_threads_may_run_it_at_once() -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return [b"%d" % environ["wsgi.multithread"]]

    assert in_time(app).content == b"1"


def test_an_application_that_yields_nothing_for_ever_can_be_cancelled() -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        while True:
            yield b""

    wrapped = wrap(app, budget=0)
    accepted = call(wrapped)
    assert call(wrapped, path_of(accepted), "DELETE").status == 202
    assert follow(wrapped, accepted).status == 410


def test_of_many_empty_pieces_few_are_kept() -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        yield from (b"" for _ in range(10_000))
        yield b"done"

    done = call(wrap(app, budget=60))
    assert done.content == b"done"
