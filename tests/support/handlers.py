"""Small applications to wrap, and the ways to wrap them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio

from raincheck import current_operation
from raincheck.asgi import RaincheckMiddleware
from tests.support.asgi import PATIENT

if TYPE_CHECKING:
    import pytest  # which takes its time, in the processes that tests start

SHORT = 0.02  # seconds; a budget that runs out soon
Handler = Callable[[Any, Any, Any], Awaitable[None]]


class Untouchable:
    """A store that fails the test as soon as anybody uses it."""

    def __getattr__(self, name: str) -> Any:
        if name in (
            "lives",
            "incarnation",
            "chunk_size",
            "glance",
            "glance_at_chunk",
            "get_all",
            "fetch",
            "conclude",
        ):  # looked for, to see what the store can do
            raise AttributeError(name)
        if name == "write_chunk":  # looked for, to see whether it is a store
            return None
        raise AssertionError(f"the store was asked for {name}")


def wrap(app: Handler, **options: Any) -> RaincheckMiddleware:
    """Wrap an application with a store in memory and a short budget, unless told otherwise."""
    chosen: dict[str, Any] = {
        "store": "memory:",
        "budget": SHORT,
        "application": "tests",  # to look for its name costs more than most tests
    }
    chosen |= options
    return RaincheckMiddleware(app, **chosen)


async def answer(send: Any, body: bytes = b"done", status: int = 200) -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Any) -> bytes:
    """Receive a whole request body; the client must not leave meanwhile."""
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def until_deferred() -> None:
    """Work until the budget is over and there is an operation, however busy the machine is."""
    with anyio.fail_after(PATIENT):
        while current_operation().id is None:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(SHORT / 10)


async def until_said(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until the log says something."""
    with anyio.fail_after(PATIENT):
        while text not in caplog.text:  # noqa: ASYNC110 - a log has no event
            await anyio.sleep(SHORT / 10)


def slow(event: anyio.Event) -> Handler:
    """Return an application that answers when the event is set."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await event.wait()
        await answer(send)

    return app
