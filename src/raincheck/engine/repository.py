"""Changing stored operations one event at a time, whoever else changes them at the same time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice

from raincheck.errors import InvalidTransition, StoreUnavailable, abbreviate
from raincheck.operations.operation import CLAIMED, Operation
from raincheck.operations.store import Concluding, Counting, Filter, Store
from raincheck.operations.transitions import Event, advance

logger = logging.getLogger("raincheck")
_BATCH = 100
_ATTEMPTS = 50  # races a change may lose; each loss means that another one won


Chunk = tuple[int, bytes]  # its number, and its bytes


class Walk:
    """Goes through all operations that meet conditions, one at a time, and keeps its place.

    Nothing is open in between; an operation is returned as it was when its page was read.
    """

    def __init__(self, store: Store, which: Filter, page: int | None = None) -> None:
        self._store = store
        self._which = which
        self._size = page or _BATCH
        self._page = deque[Operation]()
        self._cursor: str | None = None
        self._has_all = False

    @property
    def is_over(self) -> bool:
        """Whether it has come to the end."""
        return self._has_all and not self._page

    def next(self) -> Operation | None:
        """Return the next one; None: there is none."""
        while not self._page and not self._has_all:
            page, self._cursor = self._store.find(
                self._which, limit=self._size, cursor=self._cursor
            )
            self._page.extend(page)
            self._has_all = self._cursor is None
        return self._page.popleft() if self._page else None

    def turn(self, part: float) -> None:
        """Go on elsewhere in the page that is at hand.

        Args:
            part: What comes after that part of it is next, and before it last.
        """
        self._page.rotate(-int(part * len(self._page)))


class Repository:
    """The operations of a store, changed by the rules of `operation` only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._concluding = store if isinstance(store, Concluding) else None

    def change(
        self,
        operation_id: str,
        event: Event | Callable[[Operation], Event | None],
        fence: int | None = None,
        *,
        drop_dedupe: bool = False,
        known: Operation | None = None,
        last: Chunk | None = None,
    ) -> Operation | None:
        """Let an event happen to the stored operation.

        Args:
            event: May depend on the operation as it is stored; None: nothing happens to it.
            fence: The one it must have.
            drop_dedupe: Whether its end lets go of its key.
            known: How it was stored last, as far as is known; it is asked for if it is not so now.
            last: A chunk of the response that its end publishes; kept if it happens.

        Returns:
            What it became; None if it is gone, has another fence, or the event can't happen to it.

        Raises:
            StoreError: The store can't be asked.
        """
        for _ in range(_ATTEMPTS):
            stored, known = known or self._store.get(operation_id), None
            if stored is None or (fence is not None and stored.fence != fence):
                return None
            happens = event(stored) if callable(event) else event
            if happens is None:
                return None
            try:
                changed = advance(stored, happens, self._store.now())
            except InvalidTransition:
                return None
            if self._swap(stored, changed, drop_dedupe=drop_dedupe, last=last):
                return changed
        raise StoreUnavailable(f"operation {abbreviate(operation_id)} changes too often")

    def _swap(
        self, stored: Operation, changed: Operation, *, drop_dedupe: bool, last: Chunk | None
    ) -> bool:
        ends = changed.is_terminal and not stored.is_terminal
        swap = self._store.swap
        if last is not None and self._concluding is not None:
            swap = partial(self._concluding.conclude, n=last[0], data=last[1])
        elif last is not None:
            self._store.write_chunk(changed.id, changed.fence, *last)
        return swap(
            stored,
            changed,
            drop_request=stored.captured and (ends or not changed.captured),
            drop_dedupe=ends and drop_dedupe,
        )

    def let_go_of_key(self, stored: Operation) -> bool:
        """Have the next one under its key become another operation; False if it has changed."""
        unchanged = replace(stored, version=stored.version + 1)
        return self._store.swap(stored, unchanged, drop_dedupe=True)

    def record_again(self, operation: Operation, lease: float) -> None:
        """Record anew an operation of this process that the store has lost.

        A server that took over may know nothing of it, and its 202 is a promise all the same.

        Args:
            lease: Seconds.
        """
        again = replace(operation, lease=self._store.now() + lease)
        self._store.create(replace(again, captured=False))  # its request is lost, too
        logger.error("the store has lost operation %s: recorded again", operation.shown)

    def find_all(self, which: Filter) -> Iterator[Operation]:
        """Yield all operations that meet the conditions."""
        walk = self.walk(which)
        while (operation := walk.next()) is not None:
            yield operation

    def walk(self, which: Filter, page: int | None = None) -> Walk:
        """Return what looks at the same over several turns, each of which goes on behind."""
        return Walk(self._store, which, page)

    def count(self, which: Filter, limit: int) -> int:
        """Return how many operations meet the conditions, up to a limit."""
        if isinstance(self._store, Counting):
            return self._store.count(which, limit)
        return sum(1 for _ in islice(filter(which.matches, self.find_all(which)), limit))

    def workers(self) -> set[str]:
        """Return the names of those who run operations, and maybe of some who did."""
        if isinstance(self._store, Counting):
            return self._store.workers()
        claimed = self.find_all(Filter(states=CLAIMED))
        return {operation.worker for operation in claimed if operation.worker is not None}
