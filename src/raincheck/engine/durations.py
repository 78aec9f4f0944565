"""What one process learns of durations, and shares with the others of its application.

It is gathered in memory where operations end, and read from there where they are looked at; only
the heartbeat asks the store, now and then: nobody waits for it, and no request costs a call.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from hashlib import sha256

from raincheck.engine.per_process import PerProcess
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.operations import durations
from raincheck.operations.durations import NewerTable, Sketch, Table
from raincheck.operations.operation import Operation, State
from raincheck.operations.routes import key_of, resolve
from raincheck.operations.store import Keeping, Store

logger = logging.getLogger("raincheck")

FRESH = 60.0  # seconds for which what others have learned is not asked for again
TURN = 1.0  # seconds after which no other attempt is begun: there are leases to renew, too
BURST, A_SECOND = 100, 10  # durations that a process learns: at once, and of each second
ATTEMPTS = 5  # to be the one who writes; what is left then is for the next time


class Durations:
    """Learns how long the operations of one application take, by route.

    Args:
        store: Where it is shared; one that is not `Keeping` is not used.
        application: Returns the application's name; called late.
    """

    def __init__(self, store: Store, application: Callable[[], str]) -> None:
        self._store = store
        self._application = application
        self._here = PerProcess(_Known)

    def learn(self, ended: Operation) -> None:
        """Take note of an operation that a handler has just answered."""
        is_whole = ended.state in (State.SUCCEEDED, State.FAILED) and ended.result is not None
        if is_whole and ended.attempts == 1:  # or the time in which nobody ran it would count
            seconds = ended.updated - ended.begun
            self._here.get().learn(self._key(ended), seconds, ended.updated)

    def of(self, operation: Operation) -> Sketch | None:
        """Return what is known here of an operation's route; None: nothing."""
        known = self._here.get()
        known.is_wanted = True
        return known.of(self._key(operation)) if known.has_any else None

    def _key(self, operation: Operation) -> str:
        return key_of(operation.method, operation.route, self._application())

    def share(self) -> None:
        """Give what was learned here to the others, and take what they have learned."""
        known = self._here.get()
        if known.has_news or known.is_old:
            self._try_to_share(known)

    def share_rest(self) -> None:
        """Give the others what was learned here, if anything was: this process ends."""
        known = self._here.peek()
        if known is not None and known.has_news:
            self._try_to_share(known)

    def _try_to_share(self, known: _Known) -> None:
        try:
            if isinstance(self._store, Keeping):
                self._share(self._store, known)
            else:
                known.settle(known.merged(known.shared, self._store.now()))
            known.has_failed = False
        except StoreError as error:  # the next time it may go well; estimates are no promise
            if not known.has_failed:
                level = logging.INFO if isinstance(error, StoreUnavailable) else logging.WARNING
                logger.log(level, "what was learned of durations is not shared now: %s", error)
            known.has_failed = True

    def _share(self, keeping: Keeping, known: _Known) -> None:
        name, end = _name(self._application()), time.monotonic() + TURN
        for n in range(ATTEMPTS):
            if n and time.monotonic() > end:
                return
            text = keeping.recall(name)
            if text is not None and text == known.sent:  # its answer was lost
                known.settle(durations.decode(text))
                return
            try:
                stored = durations.decode(text)
            except NewerTable:
                known.settle(known.merged(known.shared, self._store.now()))
                return
            merged = known.merged(stored, self._store.now())
            if not known.sending:
                known.settle(merged)
                return
            known.sent = durations.encode(merged, secrets.token_hex(8))
            if keeping.keep(name, text, known.sent):
                known.settle(merged)
                return
            known.sent = None


def _name(application: str) -> str:
    """Return by what the store knows the table of an application."""
    return f"durations:{sha256(application.encode('utf-8', 'surrogatepass')).hexdigest()}"


class _Known:
    """What one process knows. Thread-safe; `sending` and what follows is the heartbeat's alone.

    Attributes:
        shared: What all knew when the store was last asked.
        news: What was learned here since; `sending` is being shared.
        sent: What was last written, as long as it is not known whether that was in vain.
        is_wanted: Whether anybody has asked since.
    """

    def __init__(self) -> None:
        self.shared: Table = {}
        self.news: Table = {}
        self.sending: Table = {}
        self.sent: bytes | None = None
        self.is_wanted = True
        self.has_failed = False
        self._asked: float | None = None
        self._all: dict[str, Sketch] | None = {}
        self._lock = threading.Lock()
        self._may, self._learned = float(BURST), time.monotonic()

    @property
    def has_any(self) -> bool:
        return bool(self._all is None or self._all)

    @property
    def has_news(self) -> bool:
        return bool(self.news or self.sending)

    @property
    def is_old(self) -> bool:
        """Whether others may have learned something since, and somebody wants to know."""
        is_old = self._asked is None or time.monotonic() - self._asked > FRESH
        return is_old and self.is_wanted

    def learn(self, key: str, seconds: float, now: float) -> None:
        with self._lock:
            if not self._may_learn():
                return
            one = {key: Sketch().learn(seconds, now)}
            self.news = durations.merge(self.news, one, now)
            if self._all is not None:  # all of it is put together anew only when it is shared
                self._all = durations.merge(self._all, one, now)

    def _may_learn(self) -> bool:
        """Tell whether it pays: of many ends at once a few tell as much, and all that follows from
        a duration is worked out anew after each.
        """
        now = time.monotonic()
        self._may = min(BURST, self._may + (now - self._learned) * A_SECOND)
        self._learned = now
        if self._may < 1:
            return False
        self._may -= 1
        return True

    def of(self, key: str) -> Sketch | None:
        with self._lock:
            if self._all is None:
                newest = max((each.seen for each in self.news.values()), default=0.0)
                both = durations.merge(self.shared, self.sending, newest)
                self._all = durations.merge(both, self.news, newest)
            return self._all.get(resolve(self._all, key))

    def merged(self, stored: Table, now: float) -> dict[str, Sketch]:
        """Return what all know with what was learned here, which is being shared from now on."""
        with self._lock:
            self.sending = durations.merge(self.sending, self.news, now)
            self.news = {}
        return durations.merge(stored, self.sending, now)

    def settle(self, shared: Table) -> None:
        """Take note that this is what all know."""
        with self._lock:
            self.shared, self.sending, self.sent = shared, {}, None
            self._all = None
        self._asked, self.is_wanted = time.monotonic(), False
