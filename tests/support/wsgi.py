"""A server in a few lines: it calls a WSGI application in this process and keeps a record.

It is as lax as PEP 3333 lets a server be; `strictly` puts the standard library's validator on both
sides of the middleware. Answers have the face of `tests.support.asgi.Call`: bytes, no text.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from wsgiref.validate import validator

from raincheck.engine.engine import Engine
from raincheck.errors import StoreUnavailable
from raincheck.wsgi import RaincheckMiddleware
from tests.support import handlers

Pairs = Sequence[tuple[bytes, bytes]]
SHORT = 0.02  # seconds; a budget that runs out soon
PATIENT = 30.0  # seconds after which a test has failed; a machine under load is slow


class Untouchable(handlers.Untouchable):
    """One that is out of reach for the heartbeat, which may look for what others have left."""

    def __getattr__(self, name: str) -> Any:
        if threading.current_thread().name == "raincheck-heartbeat":
            raise StoreUnavailable("out of reach")
        return super().__getattr__(name)


def engine_of(middleware: RaincheckMiddleware) -> Engine:
    """Return the engine of a middleware, to turn its clockwork by hand."""
    return middleware._gateway.engine


def wrap(app: Any, **options: Any) -> RaincheckMiddleware:
    """Wrap an application with a store in memory and a short budget, unless told otherwise."""
    chosen: dict[str, Any] = {
        "store": "memory:",
        "budget": SHORT,
        "application": "tests",  # to look for its name costs more than most tests
    }
    chosen |= options
    return RaincheckMiddleware(app, **chosen)


def strictly(app: Any, **options: Any) -> Any:
    """Wrap an application and watch both sides of the middleware for breaches of PEP 3333."""
    return validator(wrap(validator(app), **options))


def environ_of(
    path: str = "/", method: str = "GET", headers: Pairs = (), body: bytes = b"", **more: Any
) -> dict[str, Any]:
    """Describe a request as gunicorn does."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": "",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "testserver",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in headers:
        environ[_key(name)] = value.decode("latin-1")
    return environ | more


def _key(name: bytes) -> str:
    key = name.decode().upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


@dataclass
class Call:
    """One call of an application, as its server sees it.

    Attributes:
        takes: Chunks after which the client leaves.
        empties: Whether the server clears the environ after the response, as uwsgi does.
        result: What the application returned.
    """

    app: Any
    environ: dict[str, Any]
    takes: int | None = None
    empties: bool = False
    status_line: str = ""
    raw_headers: list[tuple[str, str]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    result: Any = None
    error: BaseException | None = None

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        if exc_info and self.chunks:
            raise exc_info[1].with_traceback(exc_info[2])
        assert exc_info or not self.status_line, "start_response was called twice"
        self.status_line, self.raw_headers = status, headers
        return self.send

    def send(self, chunk: bytes) -> None:
        assert self.status_line, "start_response was not called"
        assert isinstance(chunk, bytes)
        if chunk:
            self.chunks.append(chunk)

    def run(self) -> Call:
        """Call the application; its exception is kept in `error`."""
        try:
            self.serve()
        except (Exception, SystemExit) as error:
            self.error = error
        return self

    def serve(self) -> None:
        """Call the application and do to its iterable what a server does."""
        try:
            self.result = self.app(self.environ, self.start_response)
            try:
                for chunk in self.result:
                    self.send(chunk)
                    if self.takes is not None and len(self.chunks) >= self.takes:
                        return
                assert self.status_line, "start_response was not called"
            finally:
                if hasattr(self.result, "close"):
                    self.result.close()
        finally:
            if self.empties:
                self.environ.clear()

    @property
    def status(self) -> int:
        return int(self.status_line[:3])

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._fields]

    @property
    def _fields(self) -> Iterable[tuple[str, str]]:
        return self.raw_headers

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    @property
    def content(self) -> bytes:
        return b"".join(self.chunks)


def call(
    app: Any,
    path: str = "/",
    method: str = "GET",
    headers: Pairs = (),
    body: bytes = b"",
    **more: Any,
) -> Any:
    """Call an application once and return what it did."""
    return Call(app, environ_of(path, method, headers, body, **more)).run()


def follow(app: Any, accepted: Call, headers: Pairs = (), **more: Any) -> Any:
    """Poll the R of a 202 until it is none any more."""
    path, answers = path_of(accepted), list[Call]()

    def is_done() -> bool:
        answers[:] = [call(app, path, headers=headers, **more)]
        return answers[0].error is not None or answers[0].status != 202

    until(is_done)
    return answers[0]


def path_of(accepted: Call) -> str:
    """Return the path of a 202's R."""
    assert accepted.error is None, accepted.error
    assert accepted.status == 202, (accepted.status_line, accepted.content)
    location = accepted.header(b"location")
    assert location is not None
    return location.decode().removeprefix("http://testserver")


def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells."""
    deadline = time.monotonic() + PATIENT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def until_free(app: RaincheckMiddleware) -> None:
    """Wait until none of its threads works for a request any more: they are idle, or have ended."""
    idle = app._gateway.threads._idle

    def working() -> list[object]:
        targets = [getattr(thread, "_target", None) for thread in threading.enumerate()]
        workers = [getattr(target, "__self__", None) for target in targets]
        return [one for one in workers if getattr(one, "_idle", None) is idle and one not in idle]

    until(lambda: not working())


# --- ways for a response to reach the client ---------------------------------------------------


def in_time(app: Any, *arguments: Any, wrapped_by: Any = wrap, **more: Any) -> Any:
    """Get the answer of an application that is wrapped and within its budget."""
    return call(wrapped_by(app, budget=60), *arguments, **more)


def deferred(app: Any, *arguments: Any, wrapped_by: Any = wrap, **more: Any) -> Any:
    """Get the answer of an application that is deferred, from R."""
    wrapped = wrapped_by(app, budget=0)
    return follow(wrapped, call(wrapped, *arguments, **more))


WAYS = [call, in_time, deferred]
