"""A server in a thread that answers 202, and then behaves as badly as its path says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BIG = bytes(range(256)) * 4096  # 1 MiB
HALF = len(BIG) // 2
PATIENCE = 20.0  # seconds, for what comes at once


class RoughServer(ThreadingHTTPServer):
    """What was asked of it, in order.

    Attributes:
        seen: Method and path of each request, with its header fields.
        bodies: Of requests that had one.
        tries: How often each path was asked.
        cancelled: Set when something was deleted.
        goes_on: Set by a test to let a response go on.
        held_since: Set when a poll is held.
        half_sent: Set when the first half of a response has been sent.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.tries: dict[str, int] = {}
        self.cancelled = threading.Event()
        self.goes_on = threading.Event()
        self.held_since = threading.Event()
        self.half_sent = threading.Event()
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: that clients go away is what is tested."""

    def asked(self, path: str) -> list[dict[str, str]]:
        """Return the header fields of the requests for something."""
        return [fields for line, fields in self.seen if line == path]

    @property
    def lines(self) -> list[str]:
        """Method and path of each request."""
        return [line for line, _ in self.seen]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RoughServer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        """Take one request, whatever its method."""
        self.raw_requestline = self.rfile.readline(65_537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self._take()
        self.wfile.flush()

    def _take(self) -> None:
        server, path = self.server, self.path.partition("?")[0]
        with server.lock:
            fields = {name.lower(): value for name, value in self.headers.items()}
            server.seen.append((f"{self.command} {path}", fields))
            server.tries[path] = server.tries.get(path, 0) + 1
            server.bodies.append(self._body())
        if self.command == "DELETE":
            server.cancelled.set()
            if path == "/clinging":
                return self.dripping(1)
            return self._say(405 if path == "/stubborn" else 202)
        what = path.removeprefix("http://api.example").strip("/").replace("/", "_")
        return BEHAVIOURS[what](self, server.tries[path])

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _say(self, status: int, body: bytes = b"", **fields: str) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    # --- what it does, by path: start_X leads to X ----------------------------------------------

    def start(self, number: int) -> None:
        """Accept, with a cookie."""
        place = f"/{self.path.rpartition('/')[2]}"
        self._say(202, location=place, set_cookie="session=1; Path=/", retry_after="0.01")

    def lost_start(self, number: int) -> None:
        """Hang up once, and then accept."""
        if number == 1:
            return self._hang_up()
        return self._say(202, location="/report")

    def report(self, number: int) -> None:
        """Answer at once."""
        self._say(200, b"the report", etag='"1"')

    def rough(self, number: int) -> None:
        """Break off a status document, be overloaded, run, and be over."""
        if number == 2:
            return self._say(503, b"busy", retry_after="0.01")
        if number == 3:
            return self._say(202, b"not yet", retry_after="0.01")
        if number == 1:
            self.send_response(202)
            self.send_header("content-length", "100")
            self.end_headers()
            self.wfile.write(b"{")
            return self._hang_up()
        return self._say(200, b"the report")

    def held(self, number: int) -> None:
        """Answer only when it is let go on."""
        self.server.held_since.set()
        self.server.goes_on.wait(PATIENCE)
        self._say(200, b"the report")

    def slow(self, number: int) -> None:
        """Run for ever."""
        self._say(202, retry_after="0.05")

    def holding(self, number: int) -> None:
        """Hold a poll for longer than the client's timeout would have it."""
        if self.server.cancelled.wait(1.2 if number == 1 else 0.0):
            return self._hang_up()
        return self._say(200, b"the report")

    def drip(self, number: int) -> None:
        """Send a half, and the other when the first has arrived."""
        self.send_response(200)
        self.send_header("etag", 'W/"weak"' if self.path == "/drip" else '"big"')
        self.send_header("content-length", str(len(BIG)))
        self.end_headers()
        self.wfile.write(BIG[:HALF])
        self.wfile.flush()
        self.server.half_sent.set()
        if not self.server.goes_on.wait(PATIENCE):
            return self._hang_up()
        self.wfile.write(BIG[HALF:])
        return None

    def drip_tagged(self, number: int) -> None:
        """Send a half and then nothing; but the rest to who asks for it."""
        return self.drip(1) if number == 1 else self.big(2)

    def moved(self, number: int) -> None:
        """Lead to where the query says."""
        self._say(302, location=self.path.partition("?")[2])

    def big(self, number: int) -> None:
        """Break off in the middle, and give the rest to who asks for it."""
        fields = {"etag": '"big"', "accept_ranges": "bytes"}
        if self.headers.get("if-range") != '"big"':
            self.send_response(200)
            self.send_header("etag", '"big"')
            self.send_header("content-length", str(len(BIG)))
            self.end_headers()
            self.wfile.write(BIG[:HALF])
            self.wfile.flush()
            return self._hang_up()
        start = self._first()
        if start == len(BIG):
            return self._say(416, content_range=f"bytes */{len(BIG)}")
        span = f"bytes {start}-{len(BIG) - 1}/{len(BIG)}"
        return self._say(206, BIG[start:], content_range=span, **fields)

    def _first(self) -> int:
        return int(self.headers["range"].removeprefix("bytes=").rstrip("-"))

    def capped(self, number: int) -> None:
        """Break off in the middle, and give no more than a quarter at once afterwards."""
        if number == 1:
            return self.big(1)
        start = self._first()
        end = min(start + len(BIG) // 4, len(BIG))
        span = f"bytes {start}-{end - 1}/{len(BIG)}"
        return self._say(206, BIG[start:end], content_range=span, etag='"big"')

    def twice(self, number: int) -> None:
        """Break off in the middle, and be overloaded once."""
        return self._say(503) if number == 2 else self.big(number)

    def stub(self, number: int) -> None:
        """Break off early, and have no validator."""
        self.send_response(200)
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b"s" * 300)
        self.wfile.flush()
        return self._hang_up()

    def changing(self, number: int) -> None:
        """Break off in the middle, and have another response afterwards."""
        if number > 1:
            return self._say(200, b"another one", etag=f'"{number}"')
        return self.big(1)

    def inside(self, number: int) -> None:
        """Have the result inside of the status document."""
        self._tell({"response": {"pages": 3}})

    def failing(self, number: int) -> None:
        """Tell of an error, and have no response."""
        self._tell({"error": {"code": 5, "message": "no such report"}})

    def _tell(self, end: dict[str, object]) -> None:
        body = json.dumps({"name": "operations/1", "done": True, **end}).encode()
        self._say(200, body, content_type="application/json", x_server="aip")

    def own_202(self, number: int) -> None:
        """Give a handler's own 202, as raincheck shows it."""
        own = {"operation_status": "succeeded", "operation_result_status": "202"}
        self._say(200, b"queued", **own)

    def huge(self, number: int) -> None:
        """Answer with JSON that is no status document: it is too long for one."""
        body = b'{"status": "running", "id": "' + b"x" * 3_000_000 + b'"}'
        self._say(200, body, content_type="application/json", retry_after="1")

    def busy(self, number: int) -> None:
        """Be overloaded three times."""
        return self._say(503) if number < 4 else self.report(number)

    def dripping(self, number: int) -> None:
        """Send JSON in drops, each of which comes before a timeout."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "60")
        self.end_headers()
        for number in range(60):
            self.wfile.write(b" ")
            self.wfile.flush()
            self.server.goes_on.wait(0.05)
            if number == 30:
                self.server.half_sent.set()

    def clinging(self, number: int) -> None:
        """Run for ever, and answer in drops who cancels."""
        self.slow(number)

    def broken(self, number: int) -> None:
        """Accept, but break off in the body; where to poll depends on the path."""
        self.send_response(202)
        if self.path == "/broken":
            self.send_header("location", "/report")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "100")
        self.end_headers()
        self.wfile.write(b"{")
        self._hang_up()

    def stream(self, number: int) -> None:
        """Answer 202 with a stream of the handler's own."""
        self.send_response(202)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        self.server.goes_on.wait(PATIENCE)
        self.wfile.write(b"5\r\ndata:\r\n0\r\n\r\n")

    def abroad(self, number: int) -> None:
        """Lead to another origin: this server by its other name."""
        host = self.server.url.replace("127.0.0.1", "localhost")
        self._say(202, location=f"{host}{self.path.removeprefix('/abroad')}")

    def planting(self, number: int) -> None:
        """Set a cookie with the response."""
        kind = "application/json" if "json" in self.path else "text/plain"
        self._say(200, b"{}", content_type=kind, set_cookie="planted=1; Path=/")

    def leading(self, number: int) -> None:
        """End with a redirect that is the handler's."""
        own = {"operation_status": "succeeded", "operation_result_status": "303"}
        self._say(200, b"", location="/report", **own)

    def refused(self, number: int) -> None:
        """Not know the credentials any more."""
        self._say(401, www_authenticate="Basic")

    def locked(self, number: int) -> None:
        """Run until it is let go on, and be seen by who has the right credential only."""
        if self.headers.get("authorization") != "Bearer x":
            return self._say(int(self.headers.get("x-refusal", 404)), b"no such thing")
        if not self.server.goes_on.is_set():
            return self._say(202, retry_after="0.05")
        return self._say(200, b"the report")

    def failed(self, number: int) -> None:
        """Have failed, as raincheck shows it."""
        self._say(404, b"no such report", operation_status="succeeded")

    def gone(self, number: int) -> None:
        """Be there no more."""
        self._say(410)

    def conflict(self, number: int) -> None:
        """Fail, with a text that would do something to a terminal."""
        self._say(409, b"no \x1b[31mred\x1b]0;title\x07\nnever\n")


BEHAVIOURS: dict[str, Callable[[_Handler, int], None]] = {
    name: getattr(_Handler, name)
    for name in (
        *("report", "rough", "held", "slow", "holding", "drip", "big", "changing", "huge"),
        *("inside", "failing", "own_202", "capped", "twice", "stub", "locked", "failed", "gone"),
        *("busy", "dripping", "clinging", "stream", "planting", "leading"),
        *("refused", "conflict", "lost_start", "moved", "drip_tagged"),
    )
}
BEHAVIOURS["stubborn"] = _Handler.slow  # it refuses to be cancelled
BEHAVIOURS |= {f"start_{name}": _Handler.start for name in BEHAVIOURS}
BEHAVIOURS |= {
    **dict.fromkeys(("broken", "broken_alone"), _Handler.broken),
    **dict.fromkeys(("abroad_planting", "abroad_planting_json"), _Handler.abroad),
    "planting_json": _Handler.planting,
}


@contextmanager
def rough_server() -> Iterator[RoughServer]:
    """Serve, until the context is left."""
    server = RoughServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.goes_on.set()
        server.cancelled.set()
        server.shutdown()
        thread.join()
        server.server_close()
