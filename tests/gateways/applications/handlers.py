"""What the handlers do, without a framework: the same for all, sync or async.

A handler is a generator: what it yields are seconds to wait, what it returns is its answer. So
there is one copy of each, and those who run it decide how to wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from raincheck import current_operation, is_rerun

LOOK = 0.02  # seconds between looks at what others may have changed
PIECE = 65_536  # bytes
WITHOUT_CONTENT = (204, 304)


@dataclass(frozen=True)
class Asked:
    """A request, as far as handlers look at it."""

    query: Mapping[str, str]
    body: bytes

    def number(self, name: str, default: float = 0) -> float:
        """Return a number of the query."""
        return float(self.query.get(name, default))


@dataclass(frozen=True)
class Answer:
    """A response; its body is streamed unless it is bytes."""

    body: bytes | Iterable[bytes]
    status: int = 200
    content_type: str = "text/plain"
    headers: tuple[tuple[str, str], ...] = ()
    cookies: tuple[tuple[str, str], ...] = ()

    @property
    def fields(self) -> list[tuple[str, str]]:
        """All header fields but the cookies."""
        fields = [("Content-Type", self.content_type), ("X-Handler", "caf\xe9"), *self.headers]
        if isinstance(self.body, bytes) and self.status not in WITHOUT_CONTENT:
            fields.append(("Content-Length", str(len(self.body))))
        return fields


Steps: TypeAlias = Generator[float, None, Answer]
Handler: TypeAlias = Callable[[Asked], Steps]


def fast(asked: Asked) -> Steps:
    yield 0
    return Answer(b"fast\n")


def slow(asked: Asked) -> Steps:
    yield asked.number("seconds")
    return Answer(b"slow\n", 201)


def failing(asked: Asked) -> Steps:
    yield 0
    raise RuntimeError("this handler always fails")


def status(asked: Asked) -> Steps:
    """Answer as the query asks for."""
    yield 0
    code = int(asked.number("code"))
    body = b"" if code in WITHOUT_CONTENT else b"as asked\n"
    return Answer(body, code, headers=(("Location", "/fast"),))


def streaming(asked: Asked) -> Steps:
    """Begin late, and say nothing about the length."""
    yield asked.number("seconds")
    return Answer(b"part %d\n" % n for n in range(10))


def cookies(asked: Asked) -> Steps:
    yield 0
    return Answer(b"baked\n", cookies=(("a", "1"), ("b", "2")))


def binary(asked: Asked) -> Steps:
    """Send what a careless gateway would change."""
    yield 0
    body = bytes(range(256)) + b"\r\n\0\r\n\r\n"
    return Answer(body, content_type="application/octet-stream")


def echo(asked: Asked) -> Steps:
    """Send the request body back, with its hash as it was seen here."""
    yield 0
    seen = hashlib.sha256(asked.body).hexdigest()
    return Answer(asked.body, content_type="application/octet-stream", headers=(("X-Seen", seen),))


def numbered(size: int) -> Iterator[bytes]:
    """Yield so many bytes in pieces, each of which tells its number."""
    for n in range(size // PIECE):
        yield n.to_bytes(8, "big") * (PIECE // 8)
    yield bytes(size % PIECE)


def large(asked: Asked) -> Steps:
    yield 0
    return Answer(numbered(int(asked.number("size"))))


def final_202(asked: Asked) -> Steps:
    yield 0
    return Answer(b"somebody else goes on\n", 202)


def relative(asked: Asked) -> Steps:
    """Refer to what is beside."""
    yield 0
    links = ("Content-Location", "./copy"), ("Link", '<?page=2>; rel="next"')
    return Answer(b"see there\n", 303, headers=(("Location", "there?order=5"), *links))


def patient(asked: Asked) -> Steps:
    """Work until it is cancelled, and a little longer."""
    operation = current_operation()
    operation.progress(3, total=10, message="rendering")
    while not operation.cancelled:
        yield LOOK
    yield asked.number("lingers")
    operation.raise_if_cancelled()
    return Answer(b"")


def stubborn(asked: Asked) -> Steps:
    """Go on whatever anybody wants."""
    yield asked.number("seconds")
    return Answer(b"done\n")


def unique(asked: Asked) -> Steps:
    """Answer what no other run does."""
    yield asked.number("seconds")
    run = uuid.uuid4().hex
    return Answer(run.encode(), cookies=(("run", run),))


def again(asked: Asked) -> Steps:
    """Tell all that is known of the request, and whether it is run again."""
    yield 0 if is_rerun() else asked.number("seconds")
    seen = hashlib.sha256(asked.body).hexdigest()
    headers = (
        ("X-Replay", "yes" if is_rerun() else "no"),
        ("Content-Location", "once-more"),
        ("X-Asked", hashlib.sha256(repr(sorted(asked.query.items())).encode()).hexdigest()),
    )
    content_type = "application/octet-stream"
    return Answer(asked.body, content_type=content_type, headers=(("X-Seen", seen), *headers))


GET = ("GET", "HEAD")
HANDLERS: Mapping[str, tuple[Handler, tuple[str, ...]]] = {
    "/fast": (fast, GET),
    "/slow": (slow, GET),
    "/marked": (slow, GET),
    "/failing": (failing, GET),
    "/status": (status, GET),
    "/streaming": (streaming, GET),
    "/cookies": (cookies, GET),
    "/binary": (binary, GET),
    "/echo": (echo, ("POST",)),
    "/large": (large, GET),
    "/final-202": (final_202, GET),
    "/beside/here": (relative, GET),
    "/patient": (patient, GET),
    "/stubborn": (stubborn, GET),
    "/unique": (unique, ("GET", "POST", "PUT")),
    "/unique/slow": (unique, ("POST",)),
    "/unique/other": (unique, ("POST",)),
    "/unique/marked": (unique, ("POST",)),
    "/again": (again, ("GET", "POST")),
}
MARKED = frozenset({"/marked", "/unique/marked"})
BARE = "/bare"  # below it lies everything once more, excluded from being deferred


def routes() -> Iterator[tuple[str, Handler, tuple[str, ...], bool]]:
    """Yield path, handler, methods, and whether the handler is marked."""
    for path, (handler, methods) in HANDLERS.items():
        for prefix in ("", BARE):
            yield prefix + path, handler, methods, path in MARKED


def in_thread(handler: Handler, asked: Asked) -> Answer:
    """Run a handler in this thread."""
    steps = handler(asked)
    while True:
        try:
            pause = next(steps)
        except StopIteration as end:
            answer: Answer = end.value
            return answer
        time.sleep(pause)


async def on_loop(handler: Handler, asked: Asked) -> Answer:
    """Run a handler in the event loop."""
    steps = handler(asked)
    while True:
        try:
            pause = next(steps)
        except StopIteration as end:
            answer: Answer = end.value
            return answer
        await asyncio.sleep(pause)


async def on_loop_too(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Yield the chunks of a body in the event loop."""
    for chunk in chunks:
        yield chunk
