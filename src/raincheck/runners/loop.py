"""What a worker does that nobody tells of operations: it looks into the store for them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import State
from raincheck.runners.worker import Worker
from raincheck.stores.default import others_here

logger = logging.getLogger("raincheck")

LOOK = 0.5  # seconds between looks, while there is room for more
REST = 4.0  # times as long as a look has taken in vain, if that is longer
LOOK_ROUND = 60.0  # seconds between looks for what waits for others, while there is nothing to do
LOOK_FOR_TWINS = 2.0  # seconds between them while others may be the same application
ELSEWHERE = (
    "no store is named, and what other commands have started in this directory has stores of its "
    "own, where this worker does not look: %s. Give RAINCHECK_STORE, such as "
    "sqlite:///srv/operations.db, or the option `store` to servers and workers"
)


class WorkLoop:
    """Runs what waits in a worker's queues, so many operations at a time.

    Args:
        concurrency: How many at most.
        is_wanted: Asked now and then; as soon as it says no, it is as if `stop` was called.
    """

    def __init__(
        self, worker: Worker, concurrency: int, is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        self._is_wanted = is_wanted
        self._worker = worker
        self._concurrency = concurrency
        self._is_stopping = False
        self._looks_round_at = self._took = 0.0
        self._news = threading.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether nothing is begun any more."""
        return self._is_stopping or not self._is_wanted()

    def stop(self) -> None:
        """Begin nothing any more; from a signal handler, too."""
        self._is_stopping = True
        self._news.set()

    def run(self) -> None:
        """Run what comes, until `stop`."""
        self._begin()
        is_away = False
        while not self.is_stopping:
            self._news.clear()
            try:
                self._take()
                is_away = False
            except StoreUnavailable as error:
                if not is_away:
                    logger.warning("the worker goes on trying: %s", error)
                is_away = True
            self._news.wait(max(LOOK, REST * self._took))

    def run_due(self) -> Counter[State]:
        """Run what waits now, and what comes meanwhile; return how it ended, when nothing is left.

        Raises:
            StoreError: The store can't be asked.
        """
        self._begin()
        seen: list[str] = []
        while not self.is_stopping:
            self._news.clear()
            seen += (begun := self._take())
            if not begun and not self._worker.running:
                break
            if not begun:
                self._news.wait(LOOK)
        return self._worker.states(seen)

    def _begin(self) -> None:
        self._worker.start(at_end=self._news.set)
        for name in self._worker.applications():
            logger.info("this worker runs operations of %r", name)
        if self._worker.has_own_store() and (others := others_here()):
            logger.warning(ELSEWHERE, ", ".join(map(str, others)))

    def _take(self) -> list[str]:
        room = self._concurrency - self._worker.running
        begin = time.monotonic()
        begun = self._worker.take_due(room) if room > 0 else []
        # What waits and is not due has to be looked at by some stores.
        self._took = 0.0 if begun else time.monotonic() - begin
        if not begun and not self._worker.running and self._looks_round():
            begun = self._worker.take_due(room)
        return begun

    def _looks_round(self) -> bool:
        """Look for what waits for others; tell whether it is to be run here after all."""
        if time.monotonic() <= self._looks_round_at:
            return False
        has_found = self._worker.look_for_strangers()
        period = LOOK_FOR_TWINS if self._worker.may_have_twins() else LOOK_ROUND
        self._looks_round_at = time.monotonic() + period
        return has_found
