"""What one client hears of an operation: the rules, for every gateway. No threads, no event loop.

A gateway sends the head and the first bytes, then what `hear` makes of each sight, and a heartbeat
where it has been silent for long. Nothing is kept of what a client was too slow for.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace

from raincheck.http.messages import Request, Response
from raincheck.monitor import events
from raincheck.monitor.listeners import Seen
from raincheck.monitor.views import View
from raincheck.operations.operation import Operation, is_expired

logger = logging.getLogger("raincheck")

RETRY = (1.0, 4.0)  # seconds: not the same for all, who may be cut off at the same moment
# What has begun goes on after a logout, and keeps servers from stopping that wait for all clients
# and say so to nobody (granian).
LONGEST_SECONDS = 300.0
BUSY_RETRY = (8.0, 12.0)  # seconds, where too many listen, or others need the thread

_CHANCE = random.SystemRandom()  # not the shared generator, which an application may have seeded


def patience(bounds: tuple[float, float]) -> float:
    """Choose the seconds after which one client comes again."""
    return _CHANCE.uniform(*bounds)


class Feed:
    """What one client hears.

    Args:
        view: What it sees now.
        may_see: Tells whether it may, whosever the operation turns out to be; may block, and raise
            what the application raises.
        sign: Returns what its owner may hand to somebody else; given the time, too.

    Attributes:
        known: The id of the event that it has heard last.
        is_over: Whether the client is to hear nothing more.
    """

    __slots__ = ("_may_see", "_sign", "_view", "head", "is_over", "known", "start")

    def __init__(
        self,
        view: View,
        request: Request,
        may_see: Callable[[Operation], bool],
        sign: Callable[[Operation, float], str | None],
    ) -> None:
        self.head: Response = events.head(request)
        self.known = events.event_id(view.operation)
        self.is_over = False
        self.start = events.come_again(patience(RETRY))
        if events.known_by(request) != self.known:
            self.start += events.event(view)
        self._view = view
        # Once it is known whose it is that stays so: what would tell need not be kept.
        self._may_see = may_see if view.operation.unbound else None
        self._sign = sign

    @property
    def operation_id(self) -> str:
        """Return the id of what it hears of."""
        return self._view.operation.id

    def must_ask(self, seen: Seen | None) -> bool:
        """Tell whether `hear` may block: it has turned out whose the operation is."""
        operation = seen.operation if seen is not None else None
        return operation is not None and operation.owner not in (None, self._view.operation.owner)

    def hear(self, seen: Seen | None) -> bytes:
        """Return what to send now that this was seen; None: the server lets all clients go."""
        try:
            event = self._hear(seen) if seen is not None else None
        except Exception:  # what was begun can't become an error
            logger.exception("a client that listens could not be told")
            event = None
        self.is_over = event is None or self._view.operation.is_terminal
        return event or b""

    def _hear(self, seen: Seen) -> bytes | None:
        """Return what to send; None if there is nothing that it may see."""
        operation = seen.operation
        if operation is None or is_expired(operation, seen.now):
            return None
        if operation.unbound:
            if operation.result is not None:  # a raincheck that knows nothing of this has ended it
                return None
            operation = replace(operation, progress=None)
        if self.must_ask(seen) and not (self._may_see and self._may_see(operation)):
            return None
        signature = None if self._view.links.query else self._sign(operation, seen.now)
        view = self._view
        self._view = replace(view, operation=operation, now=seen.now, signature=signature)
        identity = events.event_id(operation)
        if identity == self.known:
            return b""
        self.known = identity
        if (event := seen.shared.get(view.links)) is None:
            event = seen.shared[view.links] = events.event(self._view)
        return event

    def leave(self, bounds: tuple[float, float] = BUSY_RETRY) -> bytes:
        """Return what to send to a client whose thread others need, or who has heard for long.

        Args:
            bounds: Seconds after which it is to come again.
        """
        self.is_over = True
        return events.come_again(patience(bounds))
