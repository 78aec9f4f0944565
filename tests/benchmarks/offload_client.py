"""A client that costs the processors little beside the servers that share them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """What a server has answered."""

    status: int
    location: str
    body: bytes

    def document(self) -> dict[str, Any]:
        """Read the body, which is JSON."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Client:
    """One connection that is kept, to a server on loopback."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()

    async def ask(self, method: str, url: str, *fields: str) -> Answer:
        """Send a request without a body."""
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        length = ("Content-Length: 0",) if method == "POST" else ()
        lines = (f"{method} {target} HTTP/1.1", "Host: localhost", *length, *fields, "", "")
        self._writer.write("\r\n".join(lines).encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        told = dict(line.lower().split(": ", 1) for line in head[1:-2])
        body = await self._reader.readexactly(int(told.get("content-length", 0)))
        return Answer(int(head[0].split()[1]), told.get("location", ""), body)
