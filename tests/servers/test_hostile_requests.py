"""Requests as attackers shape them: with raincheck a server does what it does without.

The same bytes go to two servers of a kind, with a bare and with a wrapped application: the same
requests must reach the handlers, and the same statuses come back, but for the 202s.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.servers.hostile_application import UNSENDABLE
from tests.servers.servers import SERVERS, TIMEOUT, Kind, Site, http_client, wait_until
from tests.servers.wsgi_servers import GTHREAD, WAITRESS, WsgiKind
from tests.support.polling import poll
from tests.support.slow import others_slow

pytestmark = pytest.mark.server

SILENCE = 1.0  # seconds after which nothing more is said
KINDS = [SERVERS[0], GTHREAD[0]]
KINDS += [kind for kind in SERVERS[1:] if kind.name not in ("hypercorn-trio", "daphne")]
KINDS.append(WAITRESS)
# Where a case's own number comes, of as many bytes.
NUMBER = b"@@"
SMUGGLED = b"GET /@@/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


def shape(*lines: str, method: str = "POST", path: str = "/@@/a", body: bytes = b"") -> bytes:
    """Write a request."""
    head = (f"{method} {path} HTTP/1.1", "Host: h", *lines, "", "")
    return "\r\n".join(head).encode("latin-1") + body


CHUNKED = "Transfer-Encoding: chunked"
SMUGGLED_CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
CLOSE = "Connection: close"
ONE_CHUNK = b"5\r\nhello\r\n0\r\n\r\n"

CASES: dict[str, bytes] = {
    "plain": shape(method="GET") * 3,
    "head": shape(method="HEAD"),
    "cl-te": shape("Content-Length: 6", CHUNKED, body=b"0\r\n\r\nG") + shape(method="GET"),
    "te-cl": shape(CHUNKED, "Content-Length: 4", body=SMUGGLED_CHUNK),
    "te-te": shape(CHUNKED, "Transfer-Encoding: cow", body=ONE_CHUNK),
    "te-twice": shape(CHUNKED, CHUNKED, body=ONE_CHUNK),
    "te-unknown": shape("Transfer-Encoding: xchunked", body=ONE_CHUNK),
    "te-identity": shape("Transfer-Encoding: identity", "Content-Length: 5", body=b"hello"),
    "te-list": shape("Transfer-Encoding: gzip, chunked", body=ONE_CHUNK),
    "te-tab": shape("Transfer-Encoding:\tchunked", body=ONE_CHUNK),
    "te-space": shape("Transfer-Encoding : chunked", body=ONE_CHUNK),
    "te-vertical-tab": shape("Transfer-Encoding: \x0bchunked", body=ONE_CHUNK),
    "te-folded": shape("Transfer-Encoding:\r\n chunked", body=ONE_CHUNK),
    "te-underscore": shape("Transfer_Encoding: chunked", "Content-Length: 5", body=b"hello"),
    "te-old": shape(CHUNKED, body=ONE_CHUNK).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "cl-twice": shape("Content-Length: 5", "Content-Length: 5", body=b"hello"),
    "cl-differs": shape("Content-Length: 5", "Content-Length: 0", body=b"hello" + SMUGGLED),
    "cl-list": shape("Content-Length: 5, 5", body=b"hello"),
    "cl-plus": shape("Content-Length: +5", body=b"hello"),
    "cl-minus": shape("Content-Length: -5", body=b"hello"),
    "cl-hex": shape("Content-Length: 0x5", body=b"hello"),
    "cl-underscore": shape("Content_Length: 5", "Content-Length: 0") + SMUGGLED,
    "cl-zero": shape("Content-Length: 0", body=SMUGGLED),
    "cl-short": shape("Content-Length: 3", body=b"hello" + SMUGGLED),
    "chunk-extension": shape(CHUNKED, body=b"5;a=b\r\nhello\r\n0;c\r\n\r\n"),
    "chunk-extension-lf": shape(CHUNKED, body=b"5;\nhello\r\n0\r\n\r\n"),
    "chunk-junk": shape(CHUNKED, body=b"5 x\r\nhello\r\n0\r\n\r\n"),
    "chunk-huge": shape(CHUNKED, body=b"f" * 20 + b"\r\nhello\r\n0\r\n\r\n"),
    "chunk-bare-lf": shape(CHUNKED, body=b"5\nhello\n0\n\n"),
    "chunk-trailers": shape(
        CHUNKED, body=b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n" + SMUGGLED
    ),
    "obs-fold": shape("X-Folded: a\r\n b", method="GET"),
    "bare-lf": shape(method="GET").replace(b"\r\n", b"\n"),
    "bare-cr": shape("X-Cr: a\rX-Injected: b", method="GET"),
    "nul": shape("X-Nul: a\x00b", method="GET"),
    "nul-in-path": shape(method="GET", path="/@@/a%00x"),
    "raw-nul-in-path": shape(method="GET", path="/@@/a\x00x"),
    "space-in-name": shape("X Space: a", method="GET"),
    "no-name": shape(": a", method="GET"),
    "no-colon": shape("X-Nothing", method="GET"),
    "no-host": b"GET /@@/a HTTP/1.1\r\n\r\n",
    "two-hosts": shape("Host: evil.test", method="GET"),
    "absolute-form": shape(method="GET", path="http://evil.test/@@/a"),
    "dots": shape(method="GET", path="/@@/a/../%2e%2e/x"),
    "double-slash": shape(method="GET", path="//@@/a"),
    "get-with-body": shape("Content-Length: 5", method="GET", body=b"hello"),
    "unread-body": shape(
        f"Content-Length: {len(SMUGGLED)}", path="/deaf/@@/a", body=SMUGGLED
    ),
    "unread-chunks": shape(
        CHUNKED, path="/deaf/@@/a", body=SMUGGLED_CHUNK
    ),
    "expect": shape("Expect: 100-continue", "Content-Length: 5", body=b"hello"),
    "upgrade": shape("Connection: Upgrade", "Upgrade: h2c", method="GET"),
    "huge-prefer": shape("Prefer: " + "wait=1, " * 4_000, method="GET"),
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """A response as a client reads it that believes its length."""

    status: int
    head: bytes
    body: bytes

    @property
    def location(self) -> str:
        """Where a 202 says that the response will be."""
        found = re.search(rb"\r\nlocation: *(\S+)", self.head, re.IGNORECASE)
        assert found is not None
        return found[1].decode("ascii")


def say(site: Site, raw: bytes) -> list[Answer]:
    """Send bytes, and return the answers until the server is silent."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", site.process.port), TIMEOUT) as connection:
        connection.settimeout(SILENCE)
        with suppress(OSError):  # it is silent, or has closed the connection
            connection.sendall(raw)
            while data := next_of(site, connection):
                received += data
    return list(answers_in(bytes(received), is_head=raw.startswith(b"HEAD")))


def next_of(site: Site, connection: socket.socket) -> bytes:
    """Receive what comes next; it is silence only if the server gets to answer others meanwhile.

    Raises:
        TimeoutError: It is silent.
    """
    try:
        return connection.recv(65536)
    except TimeoutError:
        # It may be that all its threads wait for the rest of such requests, which never comes.
        with http_client(site.url) as client, suppress(httpx.TransportError):
            client.get("/first/x", timeout=3 * SILENCE)
        return connection.recv(65536)


def answers_in(received: bytes, *, is_head: bool = False) -> Iterator[Answer]:
    while received.startswith(b"HTTP/1."):
        head, _, received = received.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        body = b""
        if length is not None and not is_head:
            body, received = received[: int(length[1])], received[int(length[1]) :]
        elif re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE):
            body, _, received = received.partition(b"0\r\n\r\n")
        if (status := int(head[9:12])) >= 200:
            yield Answer(status, head, body)


class Pair:
    """Two servers of a kind, and what they said to each case."""

    def __init__(self, kind: Kind, directory: Path, stack: ExitStack) -> None:
        self.kind = kind
        self.bare, self.wrapped = (
            stack.enter_context(_serving(kind, directory / name, name))
            for name in ("bare", "wrapped")
        )
        for site in (self.bare, self.wrapped):
            say(site, shape(CLOSE, method="GET", path="/first/x"))
        work = [(site, case) for site in (self.bare, self.wrapped) for case in CASES]
        with ThreadPoolExecutor(16) as pool:
            answers = pool.map(lambda item: say(item[0], written(item[1])), work)
            self._answers = {(s.url, c): a for (s, c), a in zip(work, answers, strict=True)}

    def answers(self, case: str) -> tuple[list[Answer], list[Answer]]:
        """Return those of the bare server and those of the other."""
        return self._answers[self.bare.url, case], self._answers[self.wrapped.url, case]


@contextmanager
def _serving(kind: Kind, directory: Path, name: str) -> Iterator[Site]:
    directory.mkdir()
    protocol = "wsgi" if isinstance(kind, WsgiKind) else "asgi"
    target = f"tests.servers.hostile_application:{name}_{protocol}"
    kind = replace(kind, command=kind.command.replace("{app}", target))
    site = Site(kind, directory, budget=0)
    with site.process:
        yield site


def number_of(case: str) -> bytes:
    return b"%02d" % list(CASES).index(case)


def written(case: str) -> bytes:
    return CASES[case].replace(NUMBER, number_of(case))


def lines(site: Site, case: str) -> list[str]:
    """Return what reached the handlers of a case."""
    return sorted(line for line in site.journal() if f"/{number_of(case).decode()}/" in line)


@pytest.fixture(scope="module", params=others_slow(KINDS, 2), ids=lambda kind: kind.name)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(request.param, tmp_path_factory.mktemp("pair"), stack)


@pytest.mark.parametrize("case", CASES)
def test_the_same_requests_reach_the_handlers_and_the_same_statuses_come_back(
    pair: Pair, case: str
) -> None:
    bare, wrapped = pair.answers(case)
    expected = lines(pair.bare, case)
    if any(answer.status >= 400 for answer in bare):
        # What a server refuses meanwhile it may already have begun to hand on.
        assert set(lines(pair.wrapped, case)) <= set(expected)
    else:
        wait_until(lambda: len(lines(pair.wrapped, case)) >= len(expected), "all are handled")
        assert lines(pair.wrapped, case) == expected
    assert len(wrapped) == len(bare)
    for plain, other in zip(bare, wrapped, strict=True):
        assert other.status == plain.status or (plain.status, other.status) == (200, 202)


def test_most_shapes_that_a_server_accepts_are_deferred(pair: Pair) -> None:
    statuses = [answer.status for case in CASES for answer in pair.answers(case)[1]]
    assert statuses.count(202) > 10


@pytest.mark.parametrize("case", CASES)
def test_each_operation_has_the_answer_to_its_own_request(pair: Pair, case: str) -> None:
    bare, wrapped = pair.answers(case)
    with http_client(pair.wrapped.url) as client:
        for answer, deferred in zip(bare, wrapped, strict=True):
            if deferred.status == 202:
                assert poll(client, path_of(deferred)).content == answer.body


@pytest.mark.parametrize("case", ["two-hosts", "absolute-form", "no-host"])
def test_no_location_leads_to_where_a_client_did_not_ask(pair: Pair, case: str) -> None:
    _, wrapped = pair.answers(case)
    for answer in wrapped:
        if answer.status == 202:
            assert not answer.location.startswith("http://evil.test")


def path_of(answer: Answer) -> str:
    """Return the path of R, whatever host the Location has."""
    return urlsplit(answer.location).path


def test_a_poll_behind_a_request_that_is_deferred_is_a_poll(pair: Pair) -> None:
    [deferred] = say(pair.wrapped, shape(path="/poll/first", body=b""))[:1]
    path = path_of(deferred)
    with http_client(pair.wrapped.url) as client:
        first = poll(client, path).content
    raw = b"".join(
        [
            shape("Content-Length: 5", path="/poll/second", body=b"hello"),
            shape("Content-Length: 5", path=path, method="GET", body=b"hello"),
            shape(CHUNKED, path=f"{path}/status", method="GET", body=ONE_CHUNK),
            shape(f"Content-Length: {len(SMUGGLED)}", path=path, method="GET", body=SMUGGLED),
            shape(path="/poll/third"),
        ]
    )
    answers = say(pair.wrapped, raw)
    # A server may close the connection after any of them.
    assert [answer.status for answer in answers] == [202, 200, 200, 200, 202][: len(answers)]
    assert answers[0].location != deferred.location
    assert [answer.body for answer in answers[1:2]] in ([], [first])
    assert not [line for line in pair.wrapped.journal() if "@@" in line]


HOSTILE_TARGETS = [
    "/operations/" + "x" * 30_000,
    "/operations/{id}%00",
    "/operations/%00",
    "/operations/{id}%0d%0aX-Injected:%20yes",
    "/operations/..%2f..%2fetc%2fpasswd",
    "/operations/../operations/{id};a=b",
    "/operations//{id}",
    "/operations/{id}//status",
    "/operations/{id}%2fstatus%2fx",
    "/operations/%EF%BC%90",
    "/operations/%ff%fe",
]


@pytest.mark.parametrize("target", HOSTILE_TARGETS, ids=range(len(HOSTILE_TARGETS)))
def test_a_target_that_names_no_operation_is_not_found(pair: Pair, target: str) -> None:
    asked = shape(CLOSE, path=target.replace("{id}", "0" * 32), method="GET")
    for answer in say(pair.wrapped, asked):
        assert answer.status in (400, 404, 414, 431)
        assert b"X-Injected" not in answer.head
        assert b"passwd" not in answer.body


SENT_ALL_THE_SAME = {("waitress", "nul"), ("waitress", "space")}


@pytest.mark.parametrize("case", UNSENDABLE)
def test_a_response_that_cannot_be_sent_is_an_operation_that_failed(pair: Pair, case: str) -> None:
    for answer in say(pair.bare, shape(CLOSE, method="GET", path=f"/fields/{case}")):
        assert answer.status == (200 if (pair.kind.name, case) in SENT_ALL_THE_SAME else 500)
    [deferred] = say(pair.wrapped, shape(CLOSE, method="GET", path=f"/fields/{case}"))
    with http_client(pair.wrapped.url) as client:
        response = poll(client, path_of(deferred))
        assert (response.status_code, response.json()["code"]) == (500, "exception")
        assert "x-injected" not in response.headers
        document = client.get(f"{path_of(deferred)}/status").json()
        assert (document["status"], document["error"]["code"]) == ("failed", "exception")


@pytest.mark.parametrize("host", ["evil.test/x", "a@b", "h:80:80", "h:x", "b\xfccher", "", "a b"])
def test_no_host_but_a_plain_one_gets_into_a_url(pair: Pair, host: str) -> None:
    raw = shape(CLOSE, method="GET", path="/host/x").replace(
        b"Host: h", f"Host: {host}".encode("latin-1")
    )
    raw = raw.replace(b"\r\n\r\n", b"\r\nX-Forwarded-Host: evil.test\r\n\r\n")
    for answer in say(pair.wrapped, raw):
        if answer.status == 202:
            assert answer.location.startswith("/operations/") or (
                urlsplit(answer.location).hostname == "127.0.0.1"  # the server's own name
            )
        assert b"evil.test" not in answer.head
