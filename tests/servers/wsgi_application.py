"""The application that the WSGI servers run: raw WSGI, with options as those of `application`.

It has the same handlers where WSGI can have them, and some for what only WSGI has.
"""

from __future__ import annotations

import io
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING
from urllib.parse import parse_qsl
from wsgiref.util import FileWrapper

from raincheck import current_operation
from raincheck.wsgi import RaincheckMiddleware
from raincheck.wsgi.waiting import serving_threads
from tests.servers.material import OPTIONS, content, note

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Write = Callable[[bytes], object]


class Call:
    """One request: the first segment of its path names the handler, the rest names the call."""

    def __init__(self, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self.path = environ["PATH_INFO"].encode("latin-1").decode()
        path = re.sub("^/(bare|patient|second)/", "", self.path)
        self.handler, _, self.name = path.strip("/").partition("/")
        self.environ = environ
        self._start_response = start_response
        self._query = dict(parse_qsl(environ.get("QUERY_STRING", "")))

    def number(self, name: str, default: float = 0) -> float:
        """Return a number of the query."""
        return float(self._query.get(name, default))

    @property
    def content(self) -> bytes:
        """The body that the query describes."""
        return content(int(self.number("seed")), int(self.number("size")))

    def pause(self, name: str = "seconds") -> None:
        """Work for so long; with `deferred=1` in the query not before there is an operation.

        However busy the machine is: else both the budget and the work may be over when this
        process runs again.
        """
        while self.number("deferred") and current_operation().id is None:
            time.sleep(0.01)
        time.sleep(self.number(name))

    def start(self, length: int | None = None, extra: Iterable[tuple[str, str]] = ()) -> Write:
        """Send status and header fields, one of them twice."""
        headers = [("X-Note", "one"), ("X-Ran-By", str(os.getpid())), ("X-Note", "two"), *extra]
        if length is not None:
            headers.append(("Content-Length", str(length)))
        return self._start_response(f"{int(self.number('status', 200))} As Asked", headers)

    def respond(self, body: bytes) -> Iterable[bytes]:
        """Return a whole response."""
        self.start(len(body))
        return [body]


def fast(call: Call) -> Iterable[bytes]:
    return call.respond(b"fast")


def slow(call: Call) -> Iterable[bytes]:
    call.pause()
    return call.respond(call.content)


def echo(call: Call) -> Iterable[bytes]:
    """Send the path back."""
    call.pause()
    return call.respond(call.path.encode())


def upload(call: Call) -> Iterable[bytes]:
    """Work, read the body, and send it back."""
    call.pause("before")
    length = call.environ.get("CONTENT_LENGTH")
    body = call.environ["wsgi.input"].read(*([int(length)] if length else []))
    return call.respond(body)


def failing(call: Call) -> Iterable[bytes]:
    call.pause()
    raise RuntimeError("this handler always fails")


def cookies(call: Call) -> Iterable[bytes]:
    call.pause()
    call.start(2, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    return [b"ok"]


class Closing:
    """Notes how often the server, or whoever else, has closed it."""

    def __init__(self, call: Call, parts: Iterable[bytes]) -> None:
        self._name = call.name
        self._parts = iter(parts)

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        note(f"closed {self._name}")


def _parts(call: Call) -> Iterator[bytes]:
    body = call.content
    size = len(body) // 10
    for n in range(10):
        yield body[n * size : (n + 1) * size]
        if n == 4:
            time.sleep(call.number("between"))


def streaming(call: Call) -> Iterable[bytes]:
    """Send the body in ten parts, with a pause before the response and one within it."""
    call.pause("before")
    call.start()
    return Closing(call, _parts(call))


def written(call: Call) -> Iterable[bytes]:
    """Send one half of the body by `write()`."""
    call.pause()
    body = call.content
    half = len(body) // 2
    write = call.start(len(body))
    write(body[: half // 2])
    write(body[half // 2 : half])
    return [body[half:]]


def file(call: Call) -> Iterable[bytes]:
    """Send a file in the way that the server is best at."""
    call.pause()
    call.start(int(call.number("size")))
    wrapper: Callable[[IO[bytes]], Iterable[bytes]]
    wrapper = call.environ.get("wsgi.file_wrapper", FileWrapper)
    return wrapper(io.BytesIO(call.content))


def empty(call: Call) -> Iterable[bytes]:
    """Send one empty piece, as Flask and Django do with an empty body."""
    call.pause()
    call.start()
    return Closing(call, [b""])


class Sour(Closing):
    """Fails when it is closed."""

    def close(self) -> None:
        super().close()
        raise RuntimeError("this iterable can't be closed")


def sour(call: Call) -> Iterable[bytes]:
    """Answer, and fail after it."""
    call.pause()
    call.start(0)
    return Sour(call, [b""])


def blocked(call: Call) -> Iterable[bytes]:
    """Say how far it is, and work until somebody cancels it."""
    operation = current_operation()
    operation.progress(3, total=10, message="rendering")
    while not operation.cancelled:
        time.sleep(0.02)
    note(f"cancelled {call.name}")
    operation.raise_if_cancelled()
    return []


def threads(call: Call) -> Iterable[bytes]:
    """Tell how many threads raincheck believes its server to have; only if it runs inline."""
    return call.respond(f"{serving_threads()} {threading.current_thread().name}".encode())


HANDLERS: dict[str, Callable[[Call], Iterable[bytes]]] = {
    handler.__name__: handler
    for handler in (fast, slow, echo, upload, failing, cookies, streaming, written, file, blocked)
}
HANDLERS |= {"threads": threads, "empty": empty, "sour": sour}


def plain(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Be the application, without raincheck."""
    call = Call(environ, start_response)
    note(f"started {call.name}")
    try:
        return HANDLERS[call.handler](call)
    finally:
        note(f"finished {call.name}")


def _signed(application: WSGIApplication) -> WSGIApplication:
    """Let every response say which process answered, raincheck's own included."""

    def signed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(
            status: str, headers: list[tuple[str, str]], exc_info: object = None, /
        ) -> Callable[[bytes], object]:
            return start_response(status, [*headers, ("X-Answered-By", str(os.getpid()))])

        return application(environ, start)

    return signed


app = RaincheckMiddleware(plain, **OPTIONS)
signed = _signed(app)

_second = RaincheckMiddleware(plain, **OPTIONS, prefix="/second-operations")


def pair(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Be two applications, each with a raincheck of its own."""
    one = _second if environ["PATH_INFO"].startswith("/second") else app
    return one(environ, start_response)
