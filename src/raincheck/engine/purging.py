"""What has run out is forgotten, and what was forgotten is deleted: a little at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from raincheck.engine.running import each
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import TERMINAL, Operation
from raincheck.operations.store import Filter, Store

TURN = 1.0  # seconds: whoever does it has leases to renew, too
REST = 0.5  # of the time that was worked: others want the store, too, and it may take one at a time
BATCH = 50  # operations; with SQLite some ten milliseconds


class Purge:
    """Does it, a turn at a time; each goes on where the last had to stop.

    Args:
        forget: Gives up the response of an operation; None if others have.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        store: Store,
        forget: Callable[[str], Operation | None],
        sleep: Callable[[float], None],
    ) -> None:
        self._store = store
        self._forget = forget
        self._sleep = sleep
        self._worked_from = self._begun = 0.0
        self._cursor: str | None = None  # behind what was looked at: of that, some stays

    def turn(self) -> bool:
        """Do it; return False if the time was too short.

        Raises:
            StoreError: What was met last.
        """
        self._worked_from = self._begun = time.monotonic()
        now = self._store.now()
        while self._store.purge(now, BATCH):
            if self._is_over():
                return False
        return self._forget_all(Filter(states=TERMINAL, expires_before=now, forgotten=False))

    def _forget_all(self, expired: Filter) -> bool:
        failure: Exception | None = None
        while True:
            page, after = self._store.find(expired, limit=BATCH, cursor=self._cursor)
            rest = deque(page)
            try:
                each(lambda operation: self._forget(operation.id), self._in_time(rest))
            except StoreUnavailable:
                raise
            except Exception as error:  # one that can't be forgotten holds up no other
                failure = error
            is_over = self._is_over()
            if not rest:
                self._cursor = after
                if after is None:
                    break
            if is_over:
                return False
        if failure is not None:
            raise failure
        return True

    def _in_time(self, rest: deque[Operation]) -> Iterator[Operation]:
        while rest and time.monotonic() - self._begun <= TURN:
            yield rest.popleft()

    def _is_over(self) -> bool:
        """Rest for a moment, and tell whether the time is over."""
        self._sleep((time.monotonic() - self._worked_from) * REST)
        self._worked_from = time.monotonic()
        return self._worked_from - self._begun > TURN
