"""What has run out is forgotten, and what was forgotten is deleted: a little at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import takewhile

from raincheck.contracts import Filter, Store
from raincheck.errors import StoreUnavailable
from raincheck.flights import each
from raincheck.operation import TERMINAL, Operation

TURN = 1.0  # seconds: whoever does it has leases to renew, too
REST = 0.5  # of the time that was worked: others want the store, too, and it may take one at a time
BATCH = 50  # operations; with SQLite some ten milliseconds


class Purge:
    """One turn of it.

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
        self._worked_from = self._begun = time.monotonic()

    def turn(self) -> bool:
        """Do it; return False if the time was too short.

        Raises:
            StoreError: What was met last.
        """
        now = self._store.now()
        while self._store.purge(now, BATCH):
            if self._is_over():
                return False
        return self._forget_all(Filter(states=TERMINAL, expires_before=now, forgotten=False))

    def _forget_all(self, expired: Filter) -> bool:
        cursor: str | None = None
        failure: Exception | None = None
        while True:
            page, after = self._store.find(expired, limit=BATCH, cursor=cursor)
            in_time = takewhile(lambda _: time.monotonic() - self._begun <= TURN, page)
            try:
                has_done_some = any(each(lambda operation: self._forget(operation.id), in_time))
            except StoreUnavailable:
                raise
            except Exception as error:  # one that can't be forgotten holds up no other
                has_done_some, failure = False, error
            if self._is_over():
                return False
            if after is None:
                break
            # The first page again, as what was forgotten is not in it any more.
            cursor = None if has_done_some else after
        if failure is not None:
            raise failure
        return True

    def _is_over(self) -> bool:
        """Rest for a moment, and tell whether the time is over."""
        self._sleep((time.monotonic() - self._worked_from) * REST)
        self._worked_from = time.monotonic()
        return self._worked_from - self._begun > TURN
