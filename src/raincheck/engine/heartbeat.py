"""The one background thread of a process: it beats for its operations and keeps house.

A thread and not a task of the handler's event loop: a handler that blocks its loop must not lose
its lease. It starts with the first operation or poll, never at construction, and again after a
fork; it ends with the object it beats for.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

from raincheck.engine.per_process import PerProcess
from raincheck.errors import StoreError

logger = logging.getLogger("raincheck")
_JITTER = random.SystemRandom()  # not the shared generator, which an application may have seeded

BEAT = 1.0  # seconds between beats while operations run here: how late progress and cancels may be
RECOVER = 5.0  # seconds between looks for operations that nobody runs any more, ± a quarter
PURGE = 60.0  # seconds between purges
SHARE = 10.0  # seconds between two times that what was learned is shared


class BeatWork(Protocol):
    """What is to be done; each may raise `StoreError` and is then done again at the next turn."""

    @property
    def is_busy(self) -> bool:
        """Whether operations run in this process."""
        ...

    def beat(self) -> None:
        """Renew leases, carry progress up and cancellations down."""
        ...

    def recover(self) -> int:
        """End what nobody runs any more."""
        ...

    def purge(self) -> bool:
        """Delete what is no longer promised; False if there is more."""
        ...

    def share(self) -> None:
        """Tell others what was learned here, and hear of theirs."""
        ...


class Heartbeat:
    """Starts and stops the thread of the current process."""

    def __init__(self, work: BeatWork) -> None:
        self._work = weakref.ref(work)
        self._beater = PerProcess(lambda: _Beater(self._work))

    def ensure(self, *, soon: bool = True) -> None:
        """Have the thread run, and beat soon if there is a reason to."""
        self._beater.get().ensure(soon)

    def recover_soon(self) -> None:
        """Have the thread look now for what nobody runs any more."""
        if self.try_to_ensure():
            self._beater.get().recover_soon()

    def try_to_ensure(self) -> bool:
        """Have the thread run; False where the system allows no more now."""
        try:
            self.ensure(soon=False)
            return True
        except RuntimeError as error:
            logger.warning("nothing is looked after now: %s", error)
            return False

    def stop(self) -> None:
        """Let the thread end; it may be started again."""
        beater = self._beater.take()
        if beater is not None:
            beater.stop()


class _Beater:
    def __init__(self, work: weakref.ref[BeatWork]) -> None:
        self._work = work
        self._wake = threading.Event()
        self._stopped = False
        self._is_beating = False  # whether the next beat comes by itself
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failing = False
        first_purge = time.monotonic() + _JITTER.uniform(0, PURGE)
        self._due = {"recover": 0.0, "purge": first_purge, "share": 0.0}

    def ensure(self, soon: bool) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._loop, name="raincheck-heartbeat", daemon=True
                )
                thread.start()  # raises where there may be no more threads
                self._thread = thread
        if soon and not self._is_beating:
            self._wake.set()

    def recover_soon(self) -> None:
        self._due["recover"] = 0.0
        self._wake.set()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        while not self._stopped:
            work = self._work()
            if work is None:
                return
            self._turn(work)
            pause = self._pause(work)
            del work  # or this thread would keep it alive while it waits
            if self._wake.wait(pause):
                self._wake.clear()
                # Let several operations that begin together share a beat.
                if not self._stopped:
                    time.sleep(0.01)

    def _pause(self, work: BeatWork) -> float:
        self._is_beating = False  # first: who is in flight from now on is seen, or wakes this
        self._is_beating = work.is_busy
        until_due = max(0.0, min(self._due.values()) - time.monotonic())
        return min(BEAT, until_due) if self._is_beating else until_due

    def _turn(self, work: BeatWork) -> None:
        """Do what is due; what fails is done again later, and costs none of the others its turn.

        A store that is full takes nothing more until it has been purged.
        """
        due: list[Callable[[], object]] = [work.beat]
        if self._is_due("recover", RECOVER):
            due.append(work.recover)
        if self._is_due("purge", PURGE):
            due.append(lambda: self._purge(work))
        if self._is_due("share", SHARE):
            due.append(work.share)
        are_done = [self._is_done(step) for step in due if not self._stopped]
        self._failing = not all(are_done)

    def _purge(self, work: BeatWork) -> None:
        if not work.purge():
            self._due["purge"] = time.monotonic()

    def _is_done(self, step: Callable[[], object]) -> bool:
        """Do it, and tell whether that went well; a store that fails is logged once."""
        try:
            step()
            return True
        except StoreError as error:
            if not self._failing:
                logger.warning("the heartbeat goes on trying: %s", error)
            self._failing = True
        except Exception:
            logger.exception("the heartbeat failed unexpectedly and goes on")
        return False

    def _is_due(self, step: str, every: float) -> bool:
        now = time.monotonic()
        if now < self._due[step]:
            return False
        self._due[step] = now + every * _JITTER.uniform(0.75, 1.25)
        return True
