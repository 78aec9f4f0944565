"""Posting: to the address that was looked at, by TLS as it should be, and never for long."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpcore
import pytest

from raincheck.engine.webhooks import sending
from raincheck.engine.webhooks.guard import Guard, NotSent
from raincheck.engine.webhooks.sending import DEADLINE, MOST_BYTES, Sender
from tests.support.processes import free_port
from tests.webhooks.receivers import LOOPBACK, Receiver, listening

HEADERS = {"webhook-id": "msg_1"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().running() as receiver:
        yield receiver


@pytest.fixture
def sender() -> Sender:
    return Sender(Guard(LOOPBACK))


def test_what_is_posted_arrives(receiver: Receiver, sender: Sender) -> None:
    assert sender.post(receiver.url, HEADERS, b"{}") == 204
    told = receiver.take()
    assert (told.method, told.path, told.body) == ("POST", "/hook?token=t0k3n", b"{}")
    assert told.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert told.headers["webhook-id"] == "msg_1"


def test_a_host_that_is_an_ipv6_address_is_written_as_one(sender: Sender) -> None:
    with Receiver("::1").running() as receiver:
        assert sender.post(f"http://[::1]:{receiver.port}/", HEADERS, b"") == 204
        assert receiver.take().headers["host"] == f"[::1]:{receiver.port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.0.0.1."])
def test_by_default_a_receiver_on_this_machine_sees_no_connection(
    receiver: Receiver, host: str
) -> None:
    with pytest.raises(NotSent, match=r"not public|not found"):
        Sender(Guard()).post(f"http://{host}:{receiver.port}/", HEADERS, b"")
    assert receiver.connections == 0


def test_a_redirect_is_not_followed(receiver: Receiver, sender: Sender) -> None:
    with Receiver().running() as other:
        receiver.statuses, receiver.headers = [307], {"location": other.url}
        assert sender.post(receiver.url, HEADERS, b"") == 307
        assert other.connections == 0


def test_proxies_of_the_environment_are_not_used(
    receiver: Receiver, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert sender.post(receiver.url, HEADERS, b"") == 204


# --- names that change their meaning -----------------------------------------------------------


class Resolver:
    """Says something else each time it is asked."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = iter(answers)
        self.asked = 0

    def __call__(self, host: str, port: int) -> Iterable[str]:
        self.asked += 1
        return next(self._answers)


def test_the_address_that_was_looked_at_is_the_one_that_is_reached(receiver: Receiver) -> None:
    with Receiver("127.0.0.2", receiver.port).running() as allowed:
        resolver = Resolver(["127.0.0.2"], ["127.0.0.1"])
        sender = Sender(Guard(["127.0.0.2/32"], resolver))
        url = f"http://rebinding.example:{receiver.port}/"
        assert sender.post(url, HEADERS, b"") == 204
        assert (resolver.asked, allowed.connections, receiver.connections) == (1, 1, 0)
        with pytest.raises(NotSent, match=r"127\.0\.0\.1 is not public"):
            sender.post(url, HEADERS, b"")
        assert (resolver.asked, allowed.connections, receiver.connections) == (2, 1, 0)


@pytest.mark.parametrize("answer", [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
def test_a_host_with_one_forbidden_address_is_not_reached_at_all(
    receiver: Receiver, answer: list[str]
) -> None:
    with Receiver("127.0.0.2", receiver.port).running() as allowed:
        sender = Sender(Guard(["127.0.0.2/32"], Resolver(answer)))
        with pytest.raises(NotSent, match=r"127\.0\.0\.1 is not public"):
            sender.post(f"http://mixed.example:{receiver.port}/", HEADERS, b"")
        assert (allowed.connections, receiver.connections) == (0, 0)


def test_the_next_address_is_tried_where_nobody_listens(receiver: Receiver) -> None:
    sender = Sender(Guard(LOOPBACK, Resolver(["127.0.0.3", "127.0.0.1"])))
    assert sender.post(f"http://two.example:{receiver.port}/", HEADERS, b"") == 204


def test_where_nobody_listens_nothing_is_sent(sender: Sender) -> None:
    with pytest.raises(NotSent, match="refused"):
        sender.post(f"http://127.0.0.1:{free_port()}/t0k3n", HEADERS, b"")


# --- receivers that take their time ------------------------------------------------------------


def drip(connection: socket.socket) -> None:
    """Begin an answer, and never end it, a byte at a time."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def hold(connection: socket.socket) -> None:
    """Say nothing."""
    while connection.recv(65536):
        pass


def interject(connection: socket.socket) -> None:
    """Say that there will be an answer, as fast as possible."""
    while True:
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 10)


def pour(connection: socket.socket) -> None:
    """Answer with more than anybody wants to read."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for n in itertools.count():
        connection.sendall(b"x-%d: %s\r\n" % (n, b"x" * 1000))


@pytest.mark.parametrize("talk", [drip, hold])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_slow_receiver_is_bounded(talk: object, scheme: str) -> None:
    assert callable(talk)
    with listening(talk) as url:
        sender = Sender(Guard(LOOPBACK), deadline=0.3)
        begun = time.monotonic()
        with pytest.raises(NotSent):
            sender.post(url.replace("http", scheme), HEADERS, b"{}")
        assert time.monotonic() - begun < DEADLINE, "its own was not asked"


def test_a_connection_whose_time_is_over_before_its_tls_begins_is_closed() -> None:
    with listening(hold) as url:
        port = httpcore.URL(url).port
        stream = httpcore.SyncBackend().connect_tcp("127.0.0.1", port or 0)
        bounded = sending._BoundedStream(stream, sending._Bounds(0.0))
        with pytest.raises(httpcore.TimeoutException):
            bounded.start_tls(ssl.create_default_context(), "localhost")
        assert stream.get_extra_info("socket").fileno() == -1


@pytest.mark.parametrize("talk", [pour, interject])
def test_a_receiver_that_says_too_much_is_cut_off(talk: object, sender: Sender) -> None:
    assert callable(talk)
    with listening(talk) as url, pytest.raises(NotSent, match=f"more than {MOST_BYTES}"):
        sender.post(url, HEADERS, b"{}")


def test_the_body_of_the_answer_is_not_waited_for(sender: Sender) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        hold(connection)

    with listening(answer) as url:
        assert sender.post(url, HEADERS, b"{}") == 200


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n\r\n", b"\x15\x03\x01\0\x02\x02\x46"])
def test_what_is_no_answer_is_a_failure(answer: bytes, sender: Sender) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    with listening(talk) as url, pytest.raises(NotSent):
        sender.post(url, HEADERS, b"{}")


def test_a_look_up_that_took_all_the_time_is_not_followed_by_a_connection(
    receiver: Receiver,
) -> None:
    def resolve(host: str, port: int) -> Iterable[str]:
        time.sleep(0.05)
        return ["127.0.0.1"]

    with pytest.raises(NotSent, match=r"more than 0\.01 seconds"):
        Sender(Guard(LOOPBACK, resolve), deadline=0.01).post(receiver.url, HEADERS, b"")
    assert receiver.connections == 0


# --- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of hooks.example, and its key."""
    if shutil.which("openssl") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI has to have openssl", pytrace=False)
        pytest.skip("there is no openssl")
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example"]
    files = ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run([*command, *subject, *files], check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.serve_tls(*map(str, certificate))
    with receiver.running():
        yield receiver


def to_this_machine() -> Sender:
    return Sender(Guard(LOOPBACK, lambda host, port: ["127.0.0.1"]))


def test_a_certificate_of_the_host_is_trusted_if_its_authority_is(
    secure: Receiver, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"https://hooks.example:{secure.port}/"
    with pytest.raises(NotSent, match="certificate verify failed"):
        to_this_machine().post(url, HEADERS, b"")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert to_this_machine().post(url, HEADERS, b"") == 204


def test_a_certificate_of_another_host_is_refused(
    secure: Receiver, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with pytest.raises(NotSent, match=r"not valid for 'other\.example'"):
        to_this_machine().post(f"https://other.example:{secure.port}/", HEADERS, b"")
    assert secure.is_idle
