"""The lifespan of an ASGI application in a process that has no server."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio

logger = logging.getLogger("raincheck")

ASGIApp = Callable[..., Awaitable[None]]


class LifespanFailed(Exception):
    """The application said that its start-up or its shutdown has failed."""


class Lifespan:
    """Starts an application up and shuts it down, in the event loop that it is made in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._state: dict[str, Any] = {}
        self._is_told = anyio.Event()
        self._is_up, self._is_over = anyio.Event(), anyio.Event()
        self._has_started = False
        self._failure: str | None = None

    async def run(self) -> None:
        """Be its server: returns when it has shut down, or has no lifespan."""
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> MutableMapping[str, Any]:
            message = next(messages)
            if message == "lifespan.shutdown":
                await self._is_told.wait()
            return {"type": message}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"].endswith(".failed"):
                self._failure = message.get("message") or message["type"]
            elif message["type"] == "lifespan.startup.complete":
                self._has_started = True
            self._is_up.set()

        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self._state}
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            # An application without a lifespan raises, too: a server goes on then.
            level = logging.ERROR if self._has_started else logging.INFO
            logger.log(level, "the lifespan has ended: %s", error)
        finally:
            self._is_up.set()
            self._is_over.set()

    async def start(self) -> None:
        """Wait until the application has started up.

        Raises:
            LifespanFailed: It says that it could not.
        """
        await self._is_up.wait()
        if self._failure is not None:
            raise LifespanFailed(self._failure)

    async def stop(self) -> None:
        """Have it shut down, and wait for that."""
        self._is_told.set()
        await self._is_over.wait()
