"""An application that answers when it is told to, and what a test of the wire asks of it."""

from __future__ import annotations

import json
from typing import Any

import anyio

from raincheck import current_operation
from raincheck.asgi import RaincheckMiddleware
from raincheck.errors import StoreUnavailable
from raincheck.http.problems import PROBLEM
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import Call, Pairs, call, follow, path_of

BODY = bytes(range(256)) * 3
HEADERS: Pairs = [
    (b"content-type", b"application/x-thing"),
    (b"X-Twice", b"1"),
    (b"x-twice", b"\xff2"),
    (b"date", b"then"),
    (b"set-cookie", b"a=1"),
    (b"connection", b"x-hop"),
    (b"x-hop", b"1"),
]


class Handler:
    """An application whose handler waits to be told what to answer."""

    def __init__(self) -> None:
        self.status = 200
        self.headers = list(HEADERS)
        self.body = BODY
        self.error: Exception | None = None
        self.begun = anyio.Event()
        self.go = anyio.Event()
        self.ended = anyio.Event()
        self.may_end: anyio.Event | None = None  # not even a cancellation ends it before
        self.operation = current_operation()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            self.operation = current_operation()
            self.operation.progress(1, 4, "begun")
            self.begun.set()
            await self.go.wait()
            if self.error is not None:
                raise self.error
            start = {"type": "http.response.start", "status": self.status, "headers": self.headers}
            await send(start)
            await send({"type": "http.response.body", "body": self.body})
        finally:
            if self.may_end is not None:
                with anyio.CancelScope(shield=True):
                    await self.may_end.wait()
            self.ended.set()


class FailingStore(MemoryStore):
    """A store that fails to read when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_failing = False

    def get(self, operation_id: str) -> Any:
        if self.is_failing:
            raise StoreUnavailable("it is down")
        return super().get(operation_id)


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def wrap(handler: Handler, clock: Clock | None = None, **options: Any) -> RaincheckMiddleware:
    store = MemoryStore(clock=clock) if clock else MemoryStore()
    chosen: dict[str, Any] = {"budget": 0, "application": "tests"} | options
    return RaincheckMiddleware(handler, store=store, **chosen)


async def finished(app: Any, handler: Handler, headers: Pairs = ()) -> tuple[str, Call]:
    """Defer a request, let its handler answer, and return R's path and final answer."""
    accepted = await call(app, "/thing", headers=headers)
    handler.go.set()
    return path_of(accepted), await follow(app, accepted)


def document(answer: Call) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.content)
    return found


def names(answer: Call) -> list[bytes]:
    return [name for name, _ in answer.headers]


def assert_problem(answer: Call, status: int, code: str) -> None:
    assert (answer.status, answer.header(b"content-type")) == (status, PROBLEM)
    assert answer.header(b"cache-control") == b"no-store"
    problem = document(answer)
    assert (problem["status"], problem["code"]) == (status, code)
