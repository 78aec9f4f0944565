"""Who waits for an operation, who listens to it, and whom a sight of it concerns.

No threads and no event loop here: `waiters` looks, and whoever waits says how it is woken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from raincheck.errors import StoreError
from raincheck.monitor.events import event_id
from raincheck.operations.operation import Operation

logger = logging.getLogger("raincheck")

AT_ONCE = 32  # waiters that are woken at a time: thousands would keep an event loop from all else


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at an operation has shown.

    Attributes:
        operation: None if there is none.
        failure: Why nothing could be seen.
        now: When that was, in seconds since the epoch by the store's clock.
        shared: What those who were told have made of it, so that it is made once.
    """

    operation: Operation | None = None
    failure: StoreError | None = None
    now: float = 0.0
    shared: dict[Hashable, bytes] = field(default_factory=dict, compare=False, repr=False)

    @property
    def ends_waiting(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.operation is None or self.operation.is_terminal


def unseen(error: Exception) -> Seen:
    """Take note that nothing could be seen, and log why if no store may fail so."""
    if isinstance(error, StoreError):
        return Seen(failure=error)
    logger.error("operations could not be looked at", exc_info=error)
    return Seen(failure=StoreError("the store failed unexpectedly"))


class Waiter:
    """Somebody who waits for an operation.

    Args:
        wake: Called from any thread when there is nothing more to wait for; must not block.

    Attributes:
        seen: Why; None if nobody is to wait any longer although the operation goes on.
        successor: Who is woken when this one has left.
    """

    __slots__ = ("operation_id", "seen", "successor", "wake")

    def __init__(self, operation_id: str, wake: Callable[[], object]) -> None:
        self.operation_id = operation_id
        self.wake = wake
        self.seen: Seen | None = None
        self.successor: Waiter | None = None

    def tell(self, seen: Seen | None) -> None:
        """Take note of what was seen; it is woken afterwards."""
        self.seen = seen


class Listening(Waiter):
    """Somebody who hears of each change of an operation that a client would see.

    Args:
        wake: As above, and whenever there is news.
        known: The event id of what it knows already.
        takes_turns: Whether others are woken only when this one says so.

    Attributes:
        seen: The newest that there is to see; nothing is kept of what was missed before.
        has_news: Whether `seen` was not taken yet.
    """

    __slots__ = ("has_news", "known", "takes_turns")

    def __init__(
        self, operation_id: str, wake: Callable[[], object], known: str | None, *, takes_turns: bool
    ) -> None:
        super().__init__(operation_id, wake)
        self.known = known
        self.takes_turns = takes_turns
        self.has_news = False

    def tell(self, seen: Seen | None) -> None:
        """Take note of what was seen; it is woken afterwards."""
        self.seen = seen
        self.has_news = True

    @property
    def is_dismissed(self) -> bool:
        """Whether the news are that nobody is to listen any longer."""
        return self.has_news and self.seen is None

    def take(self) -> Seen | None:
        """Return the news, which are none any more; None: nobody is to listen any longer."""
        self.has_news = False  # first: what comes now would be missed
        return self.seen


class Listeners:
    """Those who wait for one operation."""

    def __init__(self) -> None:
        self.waiters = set[Waiter]()
        self._known: str | None = None  # the event id that all who listen know
        self._fresh = list[Listening]()  # but these, maybe

    def add(self, waiter: Waiter) -> None:
        """Let one more wait."""
        self.waiters.add(waiter)
        if isinstance(waiter, Listening):
            self._fresh.append(waiter)

    def tell(self, seen: Seen | None) -> list[Waiter]:
        """Tell whom a sight concerns, in turn; None concerns all: nobody is to wait any longer.

        Returns:
            Who is to be woken now. The others have a predecessor.
        """
        concerned = self._concerned(seen)
        for waiter in concerned:
            waiter.tell(seen)
        first = [one for one in concerned if isinstance(one, Listening) and not one.takes_turns]
        in_turn = [one for one in concerned if not isinstance(one, Listening) or one.takes_turns]
        successors = [*in_turn[AT_ONCE:], *[None] * AT_ONCE]
        for waiter, successor in zip(in_turn, successors, strict=False):
            waiter.successor = successor
        return first + in_turn[:AT_ONCE]

    def _concerned(self, seen: Seen | None) -> list[Waiter]:
        if seen is None:
            return list(self.waiters)
        # Who listens goes on while a store fails.
        concerned = self._with_news(seen) if seen.failure is None else []
        if seen.ends_waiting:
            concerned += [one for one in self.waiters if not isinstance(one, Listening)]
        return concerned

    def _with_news(self, seen: Seen) -> list[Waiter]:
        known = event_id(seen.operation) if seen.operation is not None else None
        among: list[Waiter] | set[Waiter] = self.waiters
        if known is not None and known == self._known:  # or each who comes would cost all a look
            among = [one for one in self._fresh if one in self.waiters]
        self._fresh, self._known = [], known
        concerned = list[Waiter]()
        for one in among:
            if isinstance(one, Listening) and (known is None or one.known != known):
                one.known = known
                concerned.append(one)
        return concerned


def wake(waiter: Waiter) -> None:
    """Wake somebody, whatever comes of it."""
    try:
        waiter.wake()
    except Exception:
        logger.exception("somebody who waits for an operation could not be woken")
