"""One process as the engine needs it: its store, what it is called, what runs in it."""

from __future__ import annotations

import time

from raincheck.config.options import Settings
from raincheck.engine.durations import Durations
from raincheck.engine.frozen import policy_here
from raincheck.engine.identity import Application
from raincheck.engine.outbox import Outbox
from raincheck.engine.per_process import PerProcess
from raincheck.engine.repository import Repository
from raincheck.engine.running import RunningOperations
from raincheck.engine.store_health import StoreHealth
from raincheck.operations.operation import Operation
from raincheck.operations.store import Liveness, Store

LEASE = 30.0  # seconds
# Where the store sees who has died. It is for those who are frozen, and must be longer than any
# handler keeps Python's lock, and the heartbeat from renewing it.
LONG_LEASE = 300.0


class Process:
    """What the parts of one engine have in common.

    Args:
        application: The application; its processes stand in for each other.

    Attributes:
        liveness: The store, if it sees for itself who lives.
        lease: Seconds that a process is believed to live without being heard of.
        renewal: Seconds after which it is to be heard of again.
        unanswered: Ids of operations that this process may have recorded or claimed, as the store's
            answer was lost; and since when, by this process's clock.
        durations: What is known of how long operations take.
    """

    def __init__(self, settings: Settings, store: Store, application: Application) -> None:
        self.settings = settings
        self.limits = settings.effective_limits()
        self.policy = policy_here(settings)
        self.store = store
        self.application = application
        self.repository = Repository(store)
        self.running = RunningOperations()
        self.health = StoreHealth()
        self.liveness = store if isinstance(store, Liveness) else None
        self.lease = LEASE if self.liveness is None else LONG_LEASE
        self.renewal = LEASE / 3
        self.unanswered = dict[str, float]()
        self.durations = Durations(store, lambda: application.name)
        self._outbox_of = PerProcess(Outbox)

    @property
    def worker(self) -> str:
        """The name by which others know this process."""
        return self.liveness.incarnation() if self.liveness else self.running.worker

    @property
    def outbox(self) -> Outbox:
        """What waits here for the store."""
        return self._outbox_of.get()

    @property
    def is_busy(self) -> bool:
        """Whether operations run here or wait to be recorded."""
        return bool(len(self.running) or self.outbox)

    def is_unanswered(self, operation: Operation) -> bool:
        """Tell whether an operation is this process's without its knowing."""
        return operation.id in self.unanswered and operation.worker == self.worker

    def is_unheard_of(self, operation: Operation) -> bool:
        """Tell whether it is, and nobody has been told of it: its request has gone on without."""
        is_first = operation.fence == 1 and operation.queue is None
        # Another process may have told who came again under its key.
        return self.is_unanswered(operation) and is_first and operation.polled is None

    def note_unanswered(self, operation: Operation) -> None:
        """Take note that the store may have heard of an operation, but was not heard."""
        self.unanswered[operation.id] = time.monotonic()

    def clear(self, ended: Operation) -> None:
        """Delete what a handler that has given no response may have left of one."""
        if ended.is_terminal and ended.result is None:
            self.store.discard(ended.id)

    def has(self, operation_id: str) -> bool:
        """Tell whether an operation runs here or waits to be recorded."""
        return operation_id in self.running or operation_id in self.outbox
