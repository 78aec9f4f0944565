"""Who runs captured requests in this process: what a gateway can do for the engine."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import IO, Protocol

from raincheck.engine.running import Run
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation


class Rerunner(Protocol):
    """Runs captured requests; thread-safe.

    Attributes:
        needs_loop: Whether it does so in an event loop.
    """

    needs_loop: bool

    @property
    def is_ready(self) -> bool:
        """Whether it can now."""
        ...

    def begin(self) -> None:
        """Take note that requests may be run in this thread's event loop, without a server."""
        ...

    def drain(self) -> Awaitable[None] | None:
        """Wait for what runs, within bounds, and record how the rest has ended.

        Returns:
            What is to be awaited in the event loop, if there is one.
        """
        ...

    def rerun(self, operation: Operation, request: Request, body: IO[bytes]) -> Run:
        """Begin to run a request; returns at once.

        Args:
            operation: Claimed by this process; it is ended as that of a first run is.
            body: From its beginning; whoever runs the request closes it.

        Raises:
            RuntimeError: It can't be run here; nothing was begun.
        """
        ...
