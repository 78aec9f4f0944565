"""Looks at the store for all polls of one event loop that come at about the same time.

A look by itself takes two changes of threads and a round trip. Where a store is asked for many
operations as quickly as for one, those that come while it is asked share the next look.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from raincheck.errors import StoreUnavailable
from raincheck.monitor.listeners import Seen

if TYPE_CHECKING:
    from raincheck.asgi.loops import Loop

AT_ONCE = 2  # looks that are under way: one more would make each of them smaller
MOST = 100  # operations in one look

See = Callable[[Collection[str]], Mapping[str, Seen]]


class Gatherer:
    """Gathers the polls of one event loop.

    Args:
        see: Looks at operations; may block.
    """

    def __init__(self, loop: Loop, see: See) -> None:
        self.loop = loop
        self._see = see
        self._asked: list[_Asked] = []
        self._under_way = 0

    async def see(self, operation_id: str) -> Seen:
        """Return what there is to see of an operation."""
        asked = _Asked(operation_id, self.loop.waiter())
        self._asked.append(asked)
        if self._under_way < AT_ONCE:
            self._under_way += 1
            self.loop.spawn(self._look())
        await asked.waiter
        return asked.seen

    async def _look(self) -> None:
        try:
            while self._asked:
                these, self._asked = self._asked[:MOST], self._asked[MOST:]
                await self._look_for(these)
        finally:
            self._under_way -= 1

    async def _look_for(self, these: list[_Asked]) -> None:
        found: Mapping[str, Seen] = {}
        try:
            found = await self.loop.look(self._see, {asked.operation_id for asked in these})
        except Exception as error:  # there is no thread now, it may be: all of them hear of it
            failed = Seen(failure=StoreUnavailable(f"polls can't be answered now: {error}"))
            found = dict.fromkeys((asked.operation_id for asked in these), failed)
        finally:
            for asked in these:
                asked.seen = found.get(asked.operation_id, asked.seen)
                self.loop.wake(asked.waiter)


class _Asked:
    """One poll that waits for a look."""

    def __init__(self, operation_id: str, waiter: Any) -> None:
        self.operation_id = operation_id
        self.waiter = waiter
        self.seen = Seen(failure=StoreUnavailable("the look was given up: its event loop ends"))
