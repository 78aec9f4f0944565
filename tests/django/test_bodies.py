"""Request bodies: read early, read after the 202, uploaded, and larger than the limit."""

from __future__ import annotations

import gc
import hashlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse

from raincheck.django.bodies import take_body
from raincheck.http.spool import Spooled
from raincheck.wsgi.request_body import Unread
from tests.django.site import LONG, serving, until
from tests.django.views import Gate

BODY = bytes(range(256)) * 1_000
LARGE = BODY * 16  # 4 MiB: Django and raincheck put it into files
EARLY_READER = f"{__name__}.early_reader"
HALF_READER = f"{__name__}.half_reader"
KEEPER = f"{__name__}.keeper"
FORM = (b"content-type", b"application/x-www-form-urlencoded")
SETTINGS = {"DATA_UPLOAD_MAX_MEMORY_SIZE": None}


def early_reader(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Read the body before raincheck sees the request."""

    def middleware(request: HttpRequest) -> HttpResponse:
        assert request.body is not None
        return get_response(request)

    return middleware


def half_reader(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Read the beginning of the body before raincheck sees the request."""

    def middleware(request: HttpRequest) -> HttpResponse:
        Gate.seen["beginning"] = request.read(10)
        return get_response(request)

    return middleware


def keeper(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Keep the request, as a test client does."""

    def middleware(request: HttpRequest) -> HttpResponse:
        Gate.seen["request"] = request
        return get_response(request)

    return middleware


@pytest.fixture(scope="module", autouse=True)
def closed_files() -> Iterator[None]:
    """Have a file that nobody has closed complain."""
    yield
    gc.collect()


def summed(body: bytes) -> bytes:
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()


def form_with(content: bytes) -> tuple[tuple[bytes, bytes], bytes]:
    """Encode an upload."""
    parts = [
        b'--here\r\nContent-Disposition: form-data; name="more"\r\n\r\nand more\r\n',
        b'--here\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n--here--\r\n",
    ]
    return (b"content-type", b"multipart/form-data; boundary=here"), b"".join(parts)


@pytest.mark.parametrize("body", [b"", b"x", BODY, LARGE], ids=["empty", "one", "small", "large"])
@pytest.mark.parametrize("path", ["/body", "/body/async", "/pieces"])
@pytest.mark.parametrize("budget", [0, LONG])
def test_a_view_reads_the_whole_body(way: str, path: str, body: bytes, budget: float) -> None:
    with serving(way, BUDGET=budget, settings=SETTINGS) as site:
        send = site.call if budget else site.deferred
        assert send(path, "POST", body=body).content == summed(body)


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("path", ["/body", "/body/async", "/pieces"])
def test_a_body_can_be_read_after_the_202(way: str, path: str, body: bytes) -> None:
    with serving(way, settings=SETTINGS) as site:
        accepted = site.accepted(f"{path}", "POST", body=body, **_query(way, "hold=1"))
        Gate.opened.set()
        assert site.follow(accepted).content == summed(body)


@pytest.mark.parametrize("query", ["hold=1", "hold=1&early=1"])
@pytest.mark.parametrize("content", [BODY, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("path", ["/upload", "/upload/async"])
def test_an_upload_can_be_read_after_the_202(
    way: str, path: str, content: bytes, query: str
) -> None:
    kind, body = form_with(content)
    with serving(way) as site:
        accepted = site.accepted(path, "POST", [kind], body, **_query(way, query))
        Gate.opened.set()
        assert site.follow(accepted).content == summed(content + b"and more")
        until(lambda: Gate.seen["uploaded"].closed)  # after the operation has ended
    Gate.seen.clear()


def test_a_body_that_was_read_before_is_known_to_the_view(way: str) -> None:
    with serving(way, around=[EARLY_READER]) as site:
        accepted = site.accepted("/body", "POST", body=BODY, **_query(way, "hold=1"))
        Gate.opened.set()
        assert site.follow(accepted).content == summed(BODY)


def test_a_body_that_was_read_in_part_stays_with_the_server() -> None:
    with serving("wsgi", around=[HALF_READER], BUDGET=0) as site:
        answer = site.call("/pieces", "POST", body=BODY)
    assert answer.content == summed(BODY[10:])
    assert Gate.seen["beginning"] == BODY[:10]


@pytest.mark.parametrize("path", ["/body", "/pieces"])
def test_a_body_above_the_limit_is_read_by_the_view_in_time(path: str) -> None:
    with serving("wsgi", BUDGET=0, LIMITS={"REQUEST_BODY": 1_000}) as site:
        answer = site.call(path, "POST", body=BODY)
    assert (answer.status, answer.content) == (200, summed(BODY))


@pytest.mark.parametrize("length", ["", "-1", "0"])
def test_a_body_without_a_length_is_none(length: str) -> None:
    with serving("wsgi", BUDGET=0) as site:
        answer = site.deferred("/body", "POST", CONTENT_LENGTH=length)
    assert answer.content == summed(b"")


@pytest.mark.parametrize(
    ("method", "options"), [("POST", {"BUDGET": 0}), ("GET", {"COALESCE": ["/**"]})]
)
def test_a_body_that_ends_early_is_what_django_makes_of_it(
    method: str, options: dict[str, Any]
) -> None:
    short = str(len(BODY) + 5)
    with serving("wsgi", bare=True) as site:
        bare = site.call("/body", method, body=BODY, CONTENT_LENGTH=short)
    with serving("wsgi", **options) as site:
        answer = site.call("/body", method, body=BODY, CONTENT_LENGTH=short)
        # Its client has left, so nobody would get a 202.
        assert (answer.status, answer.content) == (200, bare.content)


def _query(way: str, query: str) -> dict[str, Any]:
    return {"QUERY_STRING": query} if way == "wsgi" else {"query_string": query.encode()}


@pytest.mark.parametrize("body", [b"a=1", b"a=" + LARGE.hex().encode()], ids=["small", "large"])
@pytest.mark.parametrize("budget", [0, LONG])
def test_a_form_that_the_view_has_not_read_is_there_after_it(body: bytes, budget: float) -> None:
    with serving("wsgi", BUDGET=budget, settings=SETTINGS, within=[KEEPER]) as site:
        call = site.call if budget else site.deferred
        assert call("/hello", "POST", headers=[FORM], body=body).status == 200
        assert Gate.seen["request"].POST["a"].encode() == body[2:]
    Gate.seen.clear()


def test_a_body_that_does_not_come_is_left_to_the_view() -> None:
    client, server = socket.socketpair()
    with client, server, server.makefile("rb") as stream:
        environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "6", "wsgi.url_scheme": "http"}
        request = WSGIRequest(environ | {"wsgi.input": stream})
        client.sendall(b"abc")
        with pytest.raises(Unread) as unread:
            take_body(request, len(BODY), Spooled(0), patience=0.05)
        assert unread.value.is_late
        client.sendall(b"def and the next request")
        assert request.body == b"abcdef"
