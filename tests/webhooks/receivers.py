"""Receivers of webhooks that listen for real, and operations with something to tell them."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import NamedTuple

from raincheck.config.options import Settings
from raincheck.operations.operation import Operation, Reason
from raincheck.operations.transitions import Ended, advance
from raincheck.testing.material import make_operation

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
LOOPBACK = ("127.0.0.0/8", "::1/128")
APPLICATION = "shop"  # whose operations have something to tell
PATIENCE = 20.0  # seconds after which a test has failed


class Told(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # several processes come at once, and would be refused

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)


class Receiver:
    """Answers each request with the next of some statuses, and with the last for ever.

    Attributes:
        is_answering: While it is not set, requests are heard and not answered.
        connections: How many have been made.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.statuses = [204]
        self.headers: dict[str, str] = {}
        self.is_answering = threading.Event()
        self.is_answering.set()
        self._told: SimpleQueue[Told] = SimpleQueue()
        self.server = _Server(host, port, _handler(self))
        self.port: int = self.server.server_address[1]
        self.connections = 0
        self._thread = threading.Thread(target=self.server.serve_forever, args=[0.01])

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.server.server_address[0]!s}:{self.port}/hook?token=t0k3n"

    def take(self) -> Told:
        """Wait for a request."""
        return self._told.get(timeout=PATIENCE)

    @property
    def is_idle(self) -> bool:
        """Whether nothing came that was not taken."""
        return self._told.empty()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Keep a request and answer it."""
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in request.headers.items()}
        self._told.put(Told(request.command, request.path, headers, body))
        self.is_answering.wait(PATIENCE)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        request.send_response(status)
        for name, value in {"content-length": "0", **self.headers}.items():
            request.send_header(name, value)
        request.end_headers()

    def serve_tls(self, certificate: str, key: str) -> None:
        """Speak TLS from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        """Answer until the context ends."""
        self._thread.start()
        try:
            yield self
        finally:
            self.is_answering.set()
            self.server.shutdown()
            self._thread.join()
            self.server.server_close()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def setup(self) -> None:
            receiver.connections += 1
            super().setup()

        def do_POST(self) -> None:
            receiver.answer(self)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Have `talk` hold the one conversation that somebody begins; yield the URL for that."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                connection, _ = server.accept()
            except OSError:  # nobody came
                return
            with connection:
                try:
                    talk(connection)
                except OSError:  # the other side has gone
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


def ended(
    url: str, now: float, id: str = "0123456789abcdef", application: str = APPLICATION
) -> Operation:
    """Return an operation that has just ended and whose webhook is to be told."""
    running = make_operation(id, webhook=url, application=application, retention=100_000.0)
    return advance(running, Ended(Reason.EXCEPTION), now)


def settings(**options: object) -> Settings:
    """Return the options of a process that may tell receivers on this machine."""
    own = {"webhook_secret": SECRET, "webhook_networks": LOOPBACK}
    return Settings.build({**own, **options})
