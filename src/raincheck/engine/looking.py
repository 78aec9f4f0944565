"""Looking at an operation for those who poll: as it is now, whatever the store does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial

from raincheck.engine.leases import Leases
from raincheck.engine.process import Process
from raincheck.engine.recovery import Recovery
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.operations.operation import Operation
from raincheck.operations.store import Gathering, Glancing
from raincheck.operations.transitions import Polled

logger = logging.getLogger("raincheck")


class Looking:
    """Looks at the operations of one store.

    Args:
        recover_soon: Has the heartbeat look for what nobody runs any more.
    """

    def __init__(
        self,
        process: Process,
        recovery: Recovery,
        leases: Leases,
        *,
        recover_soon: Callable[[], object],
    ) -> None:
        self._process = process
        self._store, self._health = process.store, process.health
        self._glancing = self._store if isinstance(self._store, Glancing) else None
        self._gathering = self._store if isinstance(self._store, Gathering) else None
        self._patience = process.settings.abandon_after
        self._recovery = recovery
        self._leases = leases
        self._recover_soon = recover_soon

    def glance(self, operation_id: str) -> Operation | None:
        """Return an operation as it is now; None: to tell, something has to be waited for or done.

        An event loop may call it.
        """
        if self._glancing is None or self._health.is_failing:
            return None
        with suppress(Exception):  # whoever looks properly hears of it
            operation = self._glancing.glance(operation_id)
            if operation is not None and self._is_left_as_it_is(operation):
                return operation
        return None

    def glance_at_chunk(self, operation_id: str, fence: int, n: int) -> bytes | None:
        """Return a chunk of a response; None: to tell, something has to be waited for."""
        if self._glancing is None or self._health.is_failing:
            return None
        with suppress(Exception):  # the same
            return self._glancing.glance_at_chunk(operation_id, fence, n)
        return None

    @property
    def gathers(self) -> bool:
        """Whether it takes no longer to look at many operations than at one."""
        return self._gathering is not None

    def gather(self, operation_ids: Collection[str]) -> Mapping[str, Operation]:
        """Return operations for which nothing has to be done, by their ids; `look` at the others.

        Raises:
            StoreError: The store can't be asked.
        """
        gathering = self._gathering
        if gathering is None:
            return {}
        get_all = partial(self._get_all, gathering, operation_ids)
        found = self._health.reads.run(get_all, left=lambda _: None)
        return {name: one for name, one in found.items() if self._is_left_as_it_is(one)}

    def _get_all(
        self, gathering: Gathering, operation_ids: Collection[str]
    ) -> Mapping[str, Operation]:
        self._store.now()
        return gathering.get_all(operation_ids)

    def look(self, operation_id: str) -> Operation | None:
        """Return an operation as it is now: one that nobody runs any more is let go first."""
        if (seen := self.glance(operation_id)) is not None:
            return seen
        operation = self._health.reads.run(lambda: self._get(operation_id))
        if operation is None:
            return self._get_lost(operation_id)
        if self._recovery.is_abandoned(operation):
            self._health.writes.run(partial(self._recovery.let_go_of, operation))
            self._recover_soon()
            return self._health.reads.run(lambda: self._store.get(operation_id)) or operation
        return operation

    def _get(self, operation_id: str) -> Operation | None:
        self._store.now()  # so that it is known, and nobody has to wait for it
        return self._store.get(operation_id)

    def _get_lost(self, operation_id: str) -> Operation | None:
        """Return an operation that is in this process and not in the store; None: there is none."""
        running = self._process.running.get(operation_id)
        if running is None or running.run is None or running.lingers:  # unheard of, or ended
            return self._process.outbox.operation(operation_id)
        try:
            self._health.writes.run(partial(self._leases.save, running))
        except StoreError as error:
            logger.warning(
                "operation %s can't be recorded again: %s", running.operation.shown, error
            )
        return running.operation

    def note_poll(self, operation: Operation) -> None:
        """Take note that somebody still wants an operation, where that counts."""
        if self._is_to_be_noted(operation):
            change = partial(self._process.repository.change, operation.id, Polled())
            with suppress(StoreUnavailable), self._health.noticing():
                self._health.writes.run(change)

    def _is_left_as_it_is(self, operation: Operation) -> bool:
        return not (self._is_to_be_noted(operation) or self._recovery.is_abandoned(operation))

    def _is_to_be_noted(self, operation: Operation) -> bool:
        if self._patience is None or operation.is_terminal:
            return False
        return self._store.now() - operation.last_asked > self._patience / 4
