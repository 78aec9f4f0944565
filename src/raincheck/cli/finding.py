"""Finding operations: the newest first, and one by the beginning of its id.

A store finds in order of creation, the oldest first, from any moment on. So who wants the newest
looks at one span of time after the other, each before the last, as long as it takes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice

from raincheck.cli.choosing import Choice
from raincheck.cli.exits import UNUSABLE, Refusal
from raincheck.cli.plain import plain
from raincheck.operations.operation import Operation, State
from raincheck.operations.store import Filter, Store
from raincheck.stores import OBJECTS
from raincheck.stores.describing import Completing, Describing
from raincheck.stores.paging import position

FIRST_SPAN = 60.0  # seconds
SHORTEST_SPAN = 0.001  # seconds: what is begun within it is read at once, however much it is
LONGER, SHORTER = 4.0, 8.0  # times
FEWEST_READ, MOST_READ = 200, 5_000  # operations at a time
LEAST_LETTERS = 4  # of an id
_BEGINNING = re.compile(rf"[0-9A-Za-z_-]{{{LEAST_LETTERS},}}")
_SHOWN = 5  # of those that begin alike


def newest(store: Store, choice: Choice, limit: int) -> list[Operation]:
    """Return the newest operations that are meant, the newest first."""
    now = store.now()
    walks = [
        _Backwards(store, choice.filter(states), limit).walk(now, choice)
        for states in _parts(store, choice)
    ]
    found = merge(*walks, key=position, reverse=True)
    return list(islice((o for o in found if choice.has(o, now)), limit))


def _parts(store: Store, choice: Choice) -> list[frozenset[State] | None]:
    """Split a look into those that a store makes in order."""
    if not (isinstance(store, Describing) and store.describe().orders_states):
        return [choice.states]
    return [frozenset({state}) for state in choice.states or State]


@dataclass(slots=True)
class _Backwards:
    store: Store
    which: Filter
    limit: int

    def walk(self, now: float, choice: Choice) -> Iterator[Operation]:
        """Yield what is found, the newest first."""
        first, _ = self.store.find(self.which, limit=1)
        if not first:
            return
        oldest = first[0].created
        if choice.newer_than is not None:
            oldest = max(oldest, now - choice.newer_than)
        begin, span = now - (choice.older_than or 0.0), FIRST_SPAN
        # Without an end, as clocks differ: what seems to be of the future is the newest.
        end = math.inf if choice.older_than is None else math.nextafter(begin, math.inf)
        while True:
            start = max(begin - span, oldest)
            found = self._between(start, end, is_all=span <= SHORTEST_SPAN)
            if found is None:
                span /= SHORTER
                continue
            yield from reversed(found)
            if start <= oldest:
                return
            begin = end = start
            span *= LONGER if len(found) < self._at_a_time / LONGER else 1

    @property
    def _at_a_time(self) -> int:
        return max(FEWEST_READ, min(2 * self.limit, MOST_READ))

    def _between(self, start: float, end: float, *, is_all: bool) -> list[Operation] | None:
        """Return what was begun from one moment to another; None: it is much.

        Args:
            is_all: Whether to return it all the same.
        """
        found: list[Operation] = []
        cursor: str | None = f"{start!r} "  # see `stores.paging`
        while True:
            page, cursor = self.store.find(self.which, limit=self._at_a_time, cursor=cursor)
            inside = [operation for operation in page if operation.created < end]
            found += inside
            if cursor is None or len(inside) < len(page):
                return found
            if not is_all:
                return None


def find_one(store: Store, text: str) -> Operation:
    """Return the operation that an id, or its beginning, names.

    Raises:
        Refusal: There is none, or there are several.
    """
    text = text.removesuffix("…")  # as logs abbreviate it
    ids = [text] if text == OBJECTS or store.get(text) is not None else _complete(store, text)
    found = [o for each in ids if each != OBJECTS and (o := store.get(each)) is not None]
    if not found:
        least = f"{LEAST_LETTERS} characters of an id are the least"
        hint = f": {least}" if len(text) < LEAST_LETTERS else ""
        raise Refusal(f"there is no operation {plain(text, 9)}{hint}")
    if len(found) > 1:
        begun = sorted(operation.id[: len(text) + 4] for operation in found)
        more = ", …" if len(begun) > _SHOWN else ""
        names = ", ".join(plain(each) for each in begun[:_SHOWN])
        raise Refusal(f"several operations begin with {plain(text)}: {names}{more}", UNUSABLE)
    return found[0]


def _complete(store: Store, text: str) -> list[str]:
    if not isinstance(store, Completing) or not _BEGINNING.fullmatch(text):
        return []
    return store.complete(text, _SHOWN + 1)
