"""Operations that were left to workers, until it is settled whether their clients were promised.

A store may carry a call out and lose its answer: its client is refused then, and no worker must
have begun. So workers that look into the store find what was recorded when it is let out; or after
`SETTLED_SECONDS`, if that fails.
"""

from __future__ import annotations

import logging
import time
from functools import partial

from raincheck.engine.outbox import if_unexpected
from raincheck.engine.process import Process
from raincheck.engine.recovery import UNHEARD
from raincheck.engine.running import each
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import Operation, Reason
from raincheck.operations.transitions import Ended, Event, Polled, Told

logger = logging.getLogger("raincheck")

SETTLED_SECONDS = 2 * UNHEARD  # longer than `settle` tries to end what nobody was promised


class Unsettled:
    """Those of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._refused: dict[str, tuple[Operation, float]] = {}  # and since when
        self._promised: dict[str, Operation] = {}

    def __len__(self) -> int:
        return len(self._refused) + len(self._promised)

    def refuse(self, operation: Operation) -> bool:
        """End what its workers could not be told of, before anybody has heard of it.

        Returns:
            False if one of them has begun with it: they were told, whatever was answered. Or
            another request was promised it.
        """

        def end(stored: Operation) -> Event | None:
            return None if _is_promised(stored) else Ended(Reason.INTERRUPTED)

        change = self._process.repository.change
        left = change(operation.id, end, fence=operation.fence, drop_dedupe=True)
        if left is not None:
            self._process.clear(left)
        return left is not None

    def take_back(self, operation: Operation) -> None:
        """Have what may have been recorded be ended, as its client was refused.

        The store's answer was lost, or came too late; it may even carry the call out later.
        """
        self._refused[operation.id] = operation, time.monotonic()

    def let_out(self, operation: Operation) -> None:
        """Let workers find what its client is promised; should the store fail now, soon."""
        self._promised[operation.id] = operation
        try:
            self._process.health.writes.run(partial(self._let_out, operation))
        except Exception as error:  # it is recorded, and will be begun: its client is promised it
            text = "operation %s waits to be seen by workers: %s"
            logger.warning(text, operation.shown, error, exc_info=if_unexpected(error))

    def promise(self, operation: Operation) -> Operation | None:
        """Keep for a request under its key what may have been refused to the one before.

        Returns:
            None if there is nothing to be done for that.

        Raises:
            StoreUnavailable: It has just been ended, or the store can't be asked.
        """
        if operation.is_terminal or _is_promised(operation):
            return None
        promise = partial(self._promise, operation)
        return self._process.health.writes.run(promise)

    def _promise(self, operation: Operation) -> Operation | None:
        change = self._process.repository.change
        promised = change(operation.id, Polled(), fence=operation.fence, known=operation)
        if promised is None:
            stored = self._process.store.get(operation.id)
            if stored is None or stored.reason is Reason.INTERRUPTED:
                raise StoreUnavailable(f"operation {operation.shown} was refused, and has ended")
        return promised

    def settle(self) -> None:
        """Go on with what the store could not take yet."""
        each(self._end_refused, list(self._refused.values()))
        each(self._let_out, list(self._promised.values()))

    def _end_refused(self, one: tuple[Operation, float]) -> None:
        operation, since = one
        is_over = time.monotonic() - since > UNHEARD
        try:
            is_over = self.refuse(operation) or self._is_settled(operation) or is_over
        except StoreUnavailable:
            is_over = False
            raise
        finally:
            if is_over:
                self._refused.pop(operation.id, None)

    def _is_settled(self, operation: Operation) -> bool:
        stored = self._process.store.get(operation.id)
        return stored is not None and (stored.is_terminal or _is_promised(stored))

    def _let_out(self, operation: Operation) -> None:
        told = Told(max(self._process.store.now(), operation.not_before or 0.0))
        change = self._process.repository.change
        try:
            change(operation.id, told, fence=operation.fence, known=operation)
        except StoreUnavailable:
            raise
        except Exception:  # never, it may be; workers find it all the same, but later
            self._promised.pop(operation.id, None)
            raise
        self._promised.pop(operation.id, None)


def _is_promised(operation: Operation) -> bool:
    """Tell whether somebody has heard of it, or has taken it up."""
    claims = 1 if operation.queue is None else 0  # of who recorded it
    return operation.fence > claims or operation.polled is not None
